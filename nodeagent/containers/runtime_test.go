package containers

import (
	"testing"

	"github.com/shoal-dev/shoal/engine/plan"
)

func TestRun(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("print", "hello", "then", "fail", "oh", "then", "exit", "3"))
	c := n.exit(p, "main")
	if c.ExitCode != 3 || c.Attempt != 0 || c.Started == 0 || c.Finished < c.Started || c.OOM || c.Image != n.digest {
		t.Errorf("got %+v", c)
	}
	if got, want := n.log(p, "main", 0), "stdout F hello\nstderr F oh\n"; got != want {
		t.Errorf("log:\n%s\nwant:\n%s", got, want)
	}
	if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
		t.Fatal(err)
	}
	if have, _ := n.List(ctx(t)); len(have) != 0 {
		t.Errorf("have %v", have)
	}
	_ = plan.Exited
}
