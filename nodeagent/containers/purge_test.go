package containers

import (
	"testing"

	"github.com/shoal-dev/shoal/engine/plan"
)

// TestClearKeepsImages takes away all that runs; the next runtime in the same place has the images, and nothing else.
func TestClearKeepsImages(t *testing.T) {
	n := newNode(t)
	p := n.run(n.podOf("sleep", "1000"))
	mustNot(t, n.Clear(ctx(t)))
	if left := n.traces(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	n.open()
	if c := n.see(p, "main"); c != nil {
		t.Errorf("the pod is still there: %+v", c)
	}
	if present, _, err := n.Image(n.image, n.digest); err != nil || !present {
		t.Fatalf("the image is there: %t, %v", present, err)
	}
	if c := n.see(n.run(n.podOf("sleep", "1000")), "main"); c.State != plan.Running {
		t.Errorf("got %+v", c)
	}
}
