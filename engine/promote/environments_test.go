package promote

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestFeature_P1_Environments reads the environments of testdata/environments_*.txtar and prints their order, or what is wrong.
func TestFeature_P1_Environments(t *testing.T) {
	golden(t, "environments_*", func(t *testing.T, files map[string]string) string {
		var environments []Environment
		dec := json.NewDecoder(strings.NewReader(files["environments.json"]))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&environments); err != nil {
			return err.Error() + "\n"
		}
		order, problems := Order(environments)
		if len(problems) > 0 {
			if order != nil {
				t.Error("an order with problems")
			}
			return problems.Error() + "\n"
		}
		var b strings.Builder
		for _, e := range order {
			b.WriteString(e.Name + "\n")
		}
		for i, e := range environments { // the order is that of a set
			turned := append(environments[i:len(environments):len(environments)], environments[:i]...)
			again, _ := Order(turned)
			for j := range order {
				if again[j].Name != order[j].Name {
					t.Errorf("from %s on it is another order", e.Name)
				}
			}
		}
		return b.String()
	})
}

// TestFault_P3_Govern: the gates of an environment come from what is active in it, its ref from the default branch.
func TestFault_P3_Govern(t *testing.T) {
	declared := Environment{Name: "production", Ref: "env/new", After: []string{"dev"}, Promote: Auto}
	active := Environment{Name: "production", Ref: "env/old", After: []string{"staging"}, Gates: Gates{Soak: Duration(24 * time.Hour)}}
	got := Govern(declared, &active)
	if got.Ref != "env/new" || got.After[0] != "staging" || got.Promote != "" || got.Gates.Soak != active.Gates.Soak {
		t.Errorf("%+v", got)
	}
	if got := Govern(declared, nil); got.Promote != Auto || got.After[0] != "dev" {
		t.Errorf("%+v", got)
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"24h", "1d"},
		{"36h", "36h"},
		{"7d", "7d"},
		{"90s", "1m30s"},
		{"90m", "1h30m"},
		{"60m", "1h"},
		{"0s", "0s"},
		{"366d", "366d"},
		{"367d", `"367d" is no duration from 0s to 366d, like 90s, 15m, 24h or 7d`},
		{"-1s", `"-1s" is no duration from 0s to 366d, like 90s, 15m, 24h or 7d`},
		{"1.5d", `"1.5d" is no duration from 0s to 366d, like 90s, 15m, 24h or 7d`},
		{"soon", `"soon" is no duration from 0s to 366d, like 90s, 15m, 24h or 7d`},
		{"99999999999d", `"99999999999d" is no duration from 0s to 366d, like 90s, 15m, 24h or 7d`},
	} {
		d, err := ParseDuration(c.in)
		got := d.String()
		if err != nil {
			got = err.Error()
		} else if again, err := ParseDuration(got); err != nil || again != d {
			t.Errorf("%s reads as %s, %v", got, again, err)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}
