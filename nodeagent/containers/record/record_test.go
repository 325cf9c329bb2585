package record

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInstanceDir(t *testing.T) {
	for name, want := range map[string]bool{"main.0": true, "a.b.12": true, "main": false, ".0": false, "main.": false, "main.-1": false, "main.01": false, "main.x": false, "": false} {
		container, attempt, ok := ParseInstanceDir(name)
		if ok != want || ok && InstanceDir(container, attempt) != name {
			t.Errorf("%q: %q %d %v", name, container, attempt, ok)
		}
	}
}

func TestWriteReplacesTheWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), StateFile)
	for _, s := range []State{{Pid: 7, Started: 1}, {Started: 1, Finished: 2, ExitCode: 137, Signal: 9, OOM: true}} {
		if err := Write(path, s); err != nil {
			t.Fatal(err)
		}
		var got State
		if err := Read(path, &got); err != nil || got != s {
			t.Errorf("got %+v, %v; want %+v", got, err, s)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got State
	if err := Read(path, &got); err == nil {
		t.Error("half a record was read")
	}
}

func TestSignalOf(t *testing.T) {
	for code, want := range map[int32]int32{0: 0, 1: 0, 128: 0, 137: 9, 143: 15, 192: 64, 255: 0} {
		if got := SignalOf(code); got != want {
			t.Errorf("%d: got %d, want %d", code, got, want)
		}
	}
}
