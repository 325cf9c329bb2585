package containers

import (
	"bytes"
	"strings"
	"testing"
)

// TestExecInput gives commands an input that is over before the shim listens, many times.
func TestExecInput(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	for i := range 40 {
		var out bytes.Buffer
		want := strings.Repeat("x", i)
		code, err := n.Exec(ctx(t), p.ID, "main", ExecOptions{Args: []string{"/bin/prog", "copy"}, Stdin: strings.NewReader(want), Stdout: &out})
		if code != 0 || err != nil || out.String() != want {
			t.Fatalf("turn %d: code %d, %v, out %q", i, code, err, &out)
		}
	}
}
