package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/nodeagent/ledger"
	"github.com/shoal-dev/shoal/nodeagent/store"
)

// withLedger runs f with the ledger of a data directory, as an agent has it, and gives the last entry applied.
func withLedger(t *testing.T, dir string, f func(*ledger.Ledger[*cluster.State, cluster.Outcome])) (index uint64, err error) {
	t.Helper()
	d, err := store.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	l, err := ledger.Open(t.Context(), ledger.Options[*cluster.State, cluster.Outcome]{
		Dir: d.Path("ledger"), Node: d.Node.ID, Boot: d.Boot.ID, Content: planContent{enginetest.Store{}}, Machine: ledger.Cluster(), Genesis: enginetest.Genesis(),
	})
	if err != nil {
		return 0, err
	}
	if f != nil {
		f(l)
	}
	l.View(func(s *cluster.State) { index = s.Index() })
	return index, l.Close()
}

// recover gets an agent over an entry it cannot step, or a log that is damaged, and touches nothing else.
func TestRecover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	before, err := withLedger(t, dir, func(l *ledger.Ledger[*cluster.State, cluster.Outcome]) {
		for i := range 20 {
			up := enginetest.Node(1)
			up.Zone = fmt.Sprint("zone", i)
			if out, err := l.Append(t.Context(), cluster.Input{NodeUp: up}); err != nil || out.Rejected != "" {
				t.Fatal(out, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	shoal := func(args ...string) string {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"recover", "--data-dir", dir}, args...), nil, &out, &errs)
		return fmt.Sprintf("%s%s(%d)", out.String(), errs.String(), code)
	}
	expect := func(got, pattern string) {
		t.Helper()
		if !regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(got) {
			t.Errorf("%s\nwant %s", got, pattern)
		}
	}
	expect(shoal(), `shoal: expected --skip INDEX, the index of the entry from the agent's log, or --cut, or --alone\n.*\(2\)`)
	expect(shoal("--cut", "--skip", "3"), `shoal: expected one of --skip, --cut and --alone.*\(2\)`)
	expect(shoal("--skip", "2", "--ring", "x"), `shoal: --ring goes with --cut and --alone\n.*\(2\)`)
	expect(shoal("--cut"), `the ledger is not damaged; nothing was changed\n\(0\)`)
	expect(shoal("--alone"), `shoal: this node is of no ring\n\(1\)`)
	expect(shoal("--skip", "1"), `shoal: skip entry 1: the first that can be skipped is 2\n\(1\)`)
	expect(shoal("--skip", "99999"), `entry 99999 will be skipped\n\(0\)`)

	held, err := store.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(shoal("--cut"), `shoal: data directory .* is in use by another agent, pid \d+\n\(1\)`)
	held.Close()

	segments, _ := filepath.Glob(filepath.Join(dir, "ledger", "log", "*.wal"))
	if len(segments) != 1 {
		t.Fatal(segments)
	}
	b, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("zone15"))
	b[at] ^= 0x10
	if err := os.WriteFile(segments[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := withLedger(t, dir, nil); err == nil || !strings.Contains(err.Error(), "shoal recover --cut") {
		t.Fatalf("a damaged ledger opened: %v", err)
	}
	expect(shoal("--cut"), `.* was damaged: .*\nthe log ends at entry \d+ now; what was cut off is in .*/ledger/quarantine\n.*\(0\)`)
	after, err := withLedger(t, dir, nil)
	if err != nil || after >= before || after < before-8 {
		t.Errorf("the ledger ended at entry %d, and ends at %d: %v", before, after, err)
	}

	dir = filepath.Join(t.TempDir(), "none")
	expect(shoal("--cut"), `shoal: .*/none has no ledger \(--data-dir\): .*\(1\)`)
	if _, err := os.Stat(dir); err == nil {
		t.Error("recover made a data directory")
	}
}
