package crilog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// texts gives a log's lines without their times, which are checked.
func texts(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stamp := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z `)
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if !stamp.MatchString(line) {
			t.Fatalf("no time before %q", line)
		}
		out.WriteString(line[len("2006-01-02T15:04:05.000000000Z "):])
	}
	return out.String()
}

func TestCopy(t *testing.T) {
	long := strings.Repeat("x", partBytes)
	for name, c := range map[string]struct{ in, want string }{
		"lines":             {"a\nb\n", "stdout F a\nstdout F b\n"},
		"no last newline":   {"a\nb", "stdout F a\nstdout F b\n"},
		"empty lines":       {"\n\n", "stdout F \nstdout F \n"},
		"nothing":           {"", ""},
		"a long line":       {long + "tail\nnext\n", "stdout P " + long + "\nstdout F tail\nstdout F next\n"},
		"exactly one part":  {long + "\n", "stdout P " + long + "\nstdout F \n"},
		"long and not over": {long + long, "stdout P " + long + "\nstdout P " + long + "\n"},
		"carriage returns":  {"a\r\nb\r", "stdout F a\r\nstdout F b\r\n"},
	} {
		path := filepath.Join(t.TempDir(), "new", "0.log")
		l, err := Open(path, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Copy("stdout", strings.NewReader(c.in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
		if got := texts(t, path); got != c.want {
			t.Errorf("%s: got %.200q, want %.200q", name, got, c.want)
		}
	}
}

func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "[a]*", "0.log") // a name that is a pattern
	l, err := Open(path, 4000, 30)
	if err != nil {
		t.Fatal(err)
	}
	var streams sync.WaitGroup
	for _, stream := range []string{"stdout", "stderr"} {
		r, w := io.Pipe()
		streams.Go(func() { l.Copy(stream, r) })
		streams.Go(func() {
			defer w.Close()
			for i := range 300 {
				fmt.Fprintf(w, "%s line %d\n", stream, i)
			}
		})
	}
	streams.Wait()
	l.Close()
	old := Rotated(path)
	if len(old) < 5 {
		t.Fatalf("set aside: %v", old)
	}
	last := map[string]int{"stdout": -1, "stderr": -1}
	for _, file := range append(old, path) {
		st, _ := os.Stat(file)
		if st.Size() > 4000 {
			t.Errorf("%s has %d bytes", file, st.Size())
		}
		for line := range strings.Lines(texts(t, file)) {
			var stream, tag, inner, word string
			var n int
			if _, err := fmt.Sscan(line, &stream, &tag, &inner, &word, &n); err != nil || stream != inner || tag != "F" {
				t.Fatalf("line %q: %v", line, err)
			}
			if last[stream] >= 0 && n != last[stream]+1 {
				t.Errorf("%s: line %d follows %d", stream, n, last[stream])
			}
			last[stream] = n
		}
	}
	if last["stdout"] != 299 || last["stderr"] != 299 {
		t.Errorf("the last lines are %v", last)
	}

	// With fewer to be kept the oldest go.
	l, err = Open(path, 4000, 3)
	if err != nil {
		t.Fatal(err)
	}
	l.Copy("stdout", strings.NewReader(strings.Repeat("more\n", 200)))
	l.Close()
	if now := Rotated(path); len(now) != 2 || now[0] < old[len(old)-1] {
		t.Errorf("set aside: %v, formerly %v", now, old)
	}
}

// TestFault_C14 has a disk that refuses: the container's output goes on being read, so that it does not hang.
func TestFault_C14(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Fatal(err)
	}
	l, err := Open("/dev/full", 1<<40, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Copy("stdout", strings.NewReader(strings.Repeat("line\n", 1000))); !errors.Is(err, os.ErrInvalid) && (err == nil || !strings.Contains(err.Error(), "no space left")) {
		t.Errorf("got %v", err)
	}
}

func FuzzCopy(f *testing.F) {
	f.Add([]byte("a\nb"))
	f.Add([]byte(strings.Repeat("y", partBytes+1)))
	f.Fuzz(func(t *testing.T, in []byte) {
		path := filepath.Join(t.TempDir(), "0.log")
		l, err := Open(path, 1<<40, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Copy("stdout", strings.NewReader(string(in))); err != nil {
			t.Fatal(err)
		}
		l.Close()
		// Put together again it is what went in, with a newline at its end at most.
		b, _ := os.ReadFile(path)
		var out strings.Builder
		for line := range strings.Lines(string(b)) {
			rest := line[len("2006-01-02T15:04:05.000000000Z stdout "):]
			out.WriteString(strings.TrimSuffix(rest[2:], "\n"))
			if rest[0] == 'F' {
				out.WriteByte('\n')
			}
		}
		if got := out.String(); got != string(in) && got != string(in)+"\n" {
			t.Errorf("%q became %q", in, got)
		}
	})
}

func BenchmarkCopy(b *testing.B) {
	path := filepath.Join(b.TempDir(), "0.log")
	l, err := Open(path, 1<<30, 2)
	if err != nil {
		b.Fatal(err)
	}
	line := strings.Repeat("a line of a container ", 4) + "\n"
	b.SetBytes(int64(len(line)) * 1000)
	for b.Loop() {
		l.Copy("stdout", strings.NewReader(strings.Repeat(line, 1000)))
	}
}

func TestTail(t *testing.T) {
	for name, tt := range map[string]struct {
		in          string
		lines, most int
		want        string
	}{
		"all":               {"a\nb\n", 80, 100, "a\nb\n"},
		"lines":             {"a\nb\nc\n", 2, 100, "b\nc\n"},
		"bytes":             {"aaaa\nbbbb\n", 80, 6, "\nbbbb\n"},
		"nothing":           {"", 80, 100, ""},
		"a line in parts":   {strings.Repeat("y", partBytes+3) + "z", 80, 5, "yyyz\n"},
		"far into the file": {strings.Repeat("early\n", 10_000) + "late\n", 2, 100, "early\nlate\n"},
	} {
		path := filepath.Join(t.TempDir(), "0.log")
		l, err := Open(path, 1<<40, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Copy("stdout", strings.NewReader(tt.in)); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if got, err := Tail(path, tt.lines, tt.most); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tt.want)
		}
	}
	if _, err := Tail(filepath.Join(t.TempDir(), "absent"), 1, 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
}
