package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTurn(t *testing.T) {
	const second = time.Second
	readers := func(text string) (out []Reader) { // "a b- c": b cannot read it
		for name := range strings.FieldsSeq(text) {
			out = append(out, Reader{Node: strings.TrimSuffix(name, "-"), Reads: !strings.HasSuffix(name, "-")})
		}
		return out
	}
	for _, tt := range []struct {
		name, self, others string
		heard              time.Duration
		want               string
	}{
		{"alone", "a", "", 0, "every 10s, polls, pollers [a]"},
		{"alone, and cannot", "a-", "", -1, "every 10s, polls, pollers [a]"},
		{"two", "a", "b", 0, "every 10s, polls, pollers [a b]"},
		{"first of three", "c", "a b", 0, "every 10s, polls, pollers [a c]"},
		{"second", "a", "b c", 0, "every 10s, polls, pollers [a c]"},
		{"third", "b", "a c", 0, "every 1m40s, pollers [a c]"},
		{"the order of the others does not matter", "b", "c a", 0, "every 1m40s, pollers [a c]"},
		{"one says that it cannot", "b", "a- c", 0, "every 10s, polls, pollers [b c]"},
		{"who said so leaves it to the others", "a-", "b c", 0, "every 1m40s, pollers [b c]"},
		{"one alone can, itself", "b", "a- c-", 0, "every 10s, polls, pollers [b]"},
		{"one alone can, another", "a-", "b c-", 31 * second, "every 1m40s, pollers [b]"},
		{"nothing heard for three intervals", "b", "a c", 31*second + 1, "every 10s, polls, alone, pollers [a c]"},
		{"nothing ever heard", "b", "a c", -1, "every 10s, polls, alone, pollers [a c]"},
		{"nobody can, and it was seen", "b-", "a- c-", 5 * second, "every 1m40s, pollers []"},
		{"nobody can", "b-", "a- c-", time.Hour, "every 10s, polls, alone, pollers []"},
		{"many", "b", "a c" + strings.Repeat(" x-", 47), 0, "every 8m20s, pollers [a c]"},
	} {
		w := Watch{Repository: "shop", Self: readers(tt.self)[0], Others: readers(tt.others), Interval: 10 * second, Heard: tt.heard}
		turn := w.Turn()
		got := "every " + turn.Every.String()
		if turn.Polls {
			got += ", polls"
		}
		if turn.Alone {
			got += ", alone"
		}
		slices.Sort(turn.Pollers)
		if got += fmt.Sprint(", pollers ", turn.Pollers); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// The pollers of many repositories are spread over the nodes, and who goes is replaced without another one's going.
func TestPollers(t *testing.T) {
	var readers []Reader
	for i := range 10 {
		readers = append(readers, Reader{Node: fmt.Sprintf("n%d", i), Reads: true})
	}
	count := map[string]int{}
	for i := range 500 {
		repository := fmt.Sprint("ring", i)
		two := Pollers(repository, readers)
		if len(two) != 2 || two[0] == two[1] {
			t.Fatalf("%s: %v", repository, two)
		}
		for _, n := range two {
			count[n]++
		}
		rest := slices.DeleteFunc(slices.Clone(readers), func(r Reader) bool { return r.Node == two[0] })
		if next := Pollers(repository, rest); next[0] != two[1] || next[1] == two[0] {
			t.Errorf("%s: %v, and without the first %v", repository, two, next)
		}
	}
	for n, c := range count {
		if c < 60 || c > 140 {
			t.Errorf("%s polls %d of 500 repositories, 100 expected", n, c)
		}
	}
}
