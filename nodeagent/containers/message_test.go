package containers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

func TestTerminationMessage(t *testing.T) {
	n := newNode(t)
	const file, logs = corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError
	const path = "/dev/termination-log"
	long := strings.Repeat("0123456789", 500)
	for name, c := range map[string]struct {
		path   string
		policy corev1.TerminationMessagePolicy
		steps  []string
		want   string
	}{
		"of one that fails":          {path, file, []string{"write", path, "no table accounts", "then", "exit", "3"}, "no table accounts"},
		"of one that succeeds":       {path, file, []string{"write", path, "moved 3 rows"}, "moved 3 rows"},
		"anywhere else":              {"/tmp/deep/word", file, []string{"write", "/tmp/deep/word", "x", "then", "exit", "1"}, "x"},
		"no message":                 {path, file, []string{"print", "a log", "then", "exit", "1"}, ""},
		"a long one: its end":        {path, file, []string{"write", path, "begin" + long, "then", "exit", "1"}, long[len(long)-4096:]},
		"the log, after a failure":   {path, logs, []string{"print", "a log", "then", "fail", "its end", "then", "exit", "1"}, "a log\nits end\n"},
		"no log, after a success":    {path, logs, []string{"print", "a log"}, ""},
		"the message before the log": {path, logs, []string{"print", "a log", "then", "write", path, "word", "then", "exit", "1"}, "word"},
		"the end of a long log":      {path, logs, []string{"lines", "100", "0", "then", "exit", "1"}, numbered(20, 100)},
	} {
		p := n.podOf(c.steps...)
		p.Spec.Containers[0].TerminationMessagePath, p.Spec.Containers[0].TerminationMessagePolicy = c.path, c.policy
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{ReadOnlyRootFilesystem: new(name != "anywhere else")}
		p.Spec.Containers[0].SecurityContext.RunAsUser = new(int64(1000))
		n.run(p)
		got := n.exit(p, "main")
		if name == "the log, after a failure" && got.Message == "its end\na log\n" {
			continue // two streams have no order
		}
		if got.Message != c.want {
			t.Errorf("%s: %q, want %q", name, got.Message, c.want)
		}
		if name == "of one that fails" {
			n.Close()
			n.open() // the next agent reads it too
			if again := n.see(p, "main"); again.Message != c.want {
				t.Errorf("%s, seen by another agent: %q", name, again.Message)
			}
		}
		if err := n.RemoveSandbox(ctx(t), p.ID); err != nil {
			t.Error(err)
		}
	}
}

// A container cannot make the agent read another file: it has the file, not the directory that it is in.
func TestTerminationMessageIsNoLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "termination-log")); err != nil {
		t.Fatal(err)
	}
	if got, err := endOf(filepath.Join(dir, "termination-log"), 4096); err == nil || got != "" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := makeMessageFile(filepath.Join(dir, "termination-log")); err == nil {
		t.Error("made through a link")
	}
}

// Each instance has a file of its own.
func TestTerminationMessageOfARestart(t *testing.T) {
	n := newNode(t)
	p := n.podOf("cat", "/dev/termination-log", "then", "write", "/dev/termination-log", "word", "then", "exit", "1")
	p.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
	n.sandbox(p)
	var got []*plan.Container
	for attempt := range 2 {
		if err := n.Start(ctx(t), n.launch(p, attempt)); err != nil {
			t.Fatal(err)
		}
		got = append(got, n.exit(p, "main"))
	}
	if said := n.log(p, "main", 1); said != "" || got[1].Message != "word" || got[1].Attempt != 1 {
		t.Errorf("the second saw %q and left %q", said, got[1].Message)
	}
}

func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, "line", i)
	}
	return b.String()
}
