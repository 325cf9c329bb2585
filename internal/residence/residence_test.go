package residence

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// Unmapping makes the process smaller, and it goes on: all of its code and tables are mapped again when touched.
func TestUnmap(t *testing.T) {
	before := fileBacked(t)
	if err := Unmap(); err != nil {
		t.Fatal(err)
	}
	if after := fileBacked(t); after >= before {
		t.Errorf("%d KiB of files are resident, before %d", after, before)
	}
}

func fileBacked(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no RssFile")
	return 0
}
