package plan

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTerminationMessageInTheStatus(t *testing.T) {
	last := func(spec, text string) string {
		t.Helper()
		p := podOf(t, "uid-1", spec)
		c := ended("app-0", 1, 0, 0)
		c.Message = text
		s := Status(p, up(c), nil, nil, begin)
		st := s.ContainerStatuses[0]
		if st.State.Terminated != nil {
			return st.State.Terminated.Message
		}
		return st.LastTerminationState.Terminated.Message
	}
	if got := last(oneNever, "no table accounts"); got != "no table accounts" {
		t.Errorf("of one that ended: %q", got)
	}
	if got := last(one, "no table accounts"); got != "no table accounts" {
		t.Errorf("of one that is started again: %q", got)
	}
	// Four containers share 12 KiB.
	four := `{restartPolicy: Never, initContainers: [{name: i, image: a}], containers: [{name: app, image: a}, {name: b, image: a}, {name: c, image: a}]}`
	if got := last(four, strings.Repeat("x", 4096)); len(got) != 3072 {
		t.Errorf("a share of a pod of four: %d bytes", len(got))
	}
}

func TestFitMessage(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		most int
		want string
	}{
		"fits":          {"abc", 3, "abc"},
		"cut":           {"abcd", 3, "abc"},
		"not in a rune": {"aä€", 5, "aä"},
		"escapes":       {strings.Repeat("\x01", 10), 4, "\x01\x01"},
		"nothing":       {"", 4, ""},
	} {
		if got := fitMessage(tt.text, tt.most); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func FuzzFitMessage(f *testing.F) {
	f.Add("\x00\xff<&>\u2028\"\\", 7)
	f.Fuzz(func(t *testing.T, text string, most int) {
		if most < 0 || most > 4096 {
			return
		}
		got := fitMessage(text, most)
		b, _ := json.Marshal(got)
		if len(got) > most || !strings.HasPrefix(text, got) || len(b) > 3*most+2 && strings.ToValidUTF8(text, "") == text {
			t.Errorf("%q of %q at most %d: %d bytes as JSON", got, text, most, len(b))
		}
	})
}
