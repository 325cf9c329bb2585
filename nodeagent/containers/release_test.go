package containers

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

func TestRelease(t *testing.T) {
	n := newNode(t)
	before := n.traces()
	p := n.podOf("write", "/big", "x", "then", "write", "/dev/termination-log", "word", "then", "print", "done", "then", "exit", "3")
	p.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side", Image: n.image, Args: []string{"exit", "0"}})
	n.run(p)
	if err := n.Start(ctx(t), n.launchOf(p, &p.Spec.Containers[1], 0)); err != nil {
		t.Fatal(err)
	}
	n.exit(p, "side")
	ended := n.exit(p, "main")
	for range 2 {
		if err := n.Release(ctx(t), p.ID); err != nil {
			t.Fatal(err)
		}
	}
	if after := n.traces(); !slices.Equal(after, before) {
		t.Errorf("it holds:\n%s", strings.Join(after, "\n"))
	}
	told := func(what string) {
		t.Helper()
		have, err := n.List(ctx(t))
		if err != nil || have[p.ID] == nil {
			t.Fatalf("%s: %v, %v", what, have, err)
		}
		if seen := have[p.ID]; seen.Namespaces || seen.Epoch != 7 || !reflect.DeepEqual(seen.Containers["main"], ended) || seen.Containers["side"].State != plan.Exited {
			t.Errorf("%s: seen %+v %+v, it was %+v", what, seen, seen.Containers["main"], ended)
		}
		if ended.Message != "word" || n.log(p, "main", 0) != "stdout F done\n" {
			t.Errorf("%s: message %q, log %q", what, ended.Message, n.log(p, "main", 0))
		}
	}
	told("afterwards")
	n.Close()
	n.open()
	told("the next agent")
	left := names(mustReadDir(t, filepath.Join(n.o.DataDir, "scratch", string(p.ID), "main.0")))
	if len(left) != 0 {
		t.Errorf("of the writable layer are left: %v", left)
	}
	begun := time.Now()
	if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
		t.Fatal(err)
	}
	t.Logf("removed in %v", time.Since(begun))
	if have, _ := n.List(ctx(t)); len(have) != 0 {
		t.Errorf("have %v", have)
	}
	if _, err := os.Stat(filepath.Join(n.o.DataDir, "scratch", string(p.ID))); err == nil {
		t.Error("its scratch directory is left")
	}
	if err := n.Release(ctx(t), p.ID); err != nil {
		t.Errorf("of a pod that is not there: %v", err)
	}
}

// A release that was cut short is done again, also by an agent that finds no shim.
func TestReleaseCutShort(t *testing.T) {
	n := newNode(t)
	before := n.traces()
	p := n.run(n.podOf("exit", "0"))
	n.exit(p, "main")
	h := n.pod(p.ID)
	mustNot(t, n.releaseInstance(ctx(t), h, h.newest("main")))
	mustNot(t, h.endShim(ctx(t), n.Runtime))
	n.Close()
	n.open()
	if have, err := n.List(ctx(t)); err != nil || !have[p.ID].Namespaces {
		t.Fatalf("it has its namespaces yet: %+v, %v", have[p.ID], err)
	}
	mustNot(t, n.Release(ctx(t), p.ID))
	if c := n.see(p, "main"); c == nil || c.State != plan.Exited || c.ExitCode != 0 {
		t.Errorf("got %+v", c)
	}
	if after := n.traces(); !slices.Equal(after, before) {
		t.Errorf("it holds:\n%s", strings.Join(after, "\n"))
	}
}

// What was made and never started, as its agent was killed, goes when it is told to stop.
func TestStopOfOneThatWasMade(t *testing.T) {
	n := newNode(t)
	p := n.sandbox(n.podOf("sleep", "1000"))
	h := n.pod(p.ID)
	im, err := n.store.get(ctx(t), n.imageDigest())
	mustNot(t, err)
	spec, err := n.spec(h, n.launch(p, 0), im)
	mustNot(t, err)
	in := n.newInstance(h, n.launch(p, 0), im)
	mount, err := n.writeBundle(h, in, spec, im)
	mustNot(t, err)
	mustNot(t, h.ready(ctx(t), n.Runtime))
	mustNot(t, n.createTask(h, in, mount))
	if c := n.see(p, "main"); c == nil || c.State != plan.Created {
		t.Fatalf("got %+v", c)
	}
	mustNot(t, n.Stop(ctx(t), p.ID, "main", time.Second))
	if c := n.see(p, "main"); c != nil {
		t.Errorf("it is still there: %+v", c)
	}
}
