package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func openDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOpenKeepsWhoTheNodeIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := openDir(t, path)
	if !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(string(d.Node.ID)) || d.Node.Instance() != string(d.Node.ID)[:6] {
		t.Errorf("node %q, instance %q", d.Node.ID, d.Node.Instance())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := openDir(t, path)
	if again.Node.ID != d.Node.ID || !again.Node.Key.Equal(d.Node.Key) || again.Node.Public() != d.Node.Public() {
		t.Errorf("node was %s, is %s", d.Node.ID, again.Node.ID)
	}
	if d.Boot.Count != 1 || again.Boot.Count != 2 || d.Boot.ID == again.Boot.ID {
		t.Errorf("boots %+v and %+v", d.Boot, again.Boot)
	}
	if other := openDir(t, filepath.Join(t.TempDir(), "other")); other.Node.ID == d.Node.ID {
		t.Error("two nodes with one key")
	}
}

// TestMain is also the process that holds a data directory in TestFault_U10.
func TestMain(m *testing.M) {
	if path := os.Getenv("SHOAL_TEST_HOLD"); path != "" {
		_, err := Open(path, nil)
		fmt.Println(os.Getpid(), err)
		bufio.NewReader(os.Stdin).ReadByte()
		return
	}
	os.Exit(m.Run())
}

func TestFault_U10(t *testing.T) {
	path := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SHOAL_TEST_HOLD="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasSuffix(line, "<nil>\n") {
		t.Fatalf("first: %q, %v", line, err)
	}
	_, err = Open(path, nil)
	locked, ok := errors.AsType[*LockedError](err)
	if !ok || locked.PID != cmd.Process.Pid || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("second: %v, want the pid %d", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // "signal: killed"
	openDir(t, path)
}

func TestOpenRefusesWhatItCannotRead(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"from the future": {"VERSION", "2\n", `format "2", this shoal reads "1"`},
		"no version":      {"VERSION", "\x00\x00", `format "\x00\x00"`},
		"no key":          {"node.key", "garbage", "no PEM block PRIVATE KEY"},
		"empty key":       {"node.key", "", "no PEM block PRIVATE KEY"},
		"broken key":      {"node.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "asn1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			file := filepath.Join(path, c.file)
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want %q and the file", err, c.want)
			}
			if b, _ := os.ReadFile(file); string(b) != c.text {
				t.Errorf("file is %q now", b)
			}
			if c.file == "VERSION" && strings.Contains(filesIn(t, path), "node.key") {
				t.Error("a key was made in a directory of another format")
			}
		})
	}
}

func TestBootCounterThatCannotBeReadIsQuarantined(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "boot"), []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d, err := Open(path, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Boot.Count != 1 || !strings.Contains(log.String(), "quarantine/boot") {
		t.Errorf("boot %+v, log %s", d.Boot, log.String())
	}
	if kept, err := os.ReadFile(d.Path("quarantine", "boot")); err != nil || string(kept) != "\x00\x00" {
		t.Errorf("kept %q, %v", kept, err)
	}
}

func TestWriteFileLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "file"), 0o700); err != nil { // in the way of the rename
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "file"), []byte("x")); err == nil {
		t.Error("replaced a directory")
	}
	if left := filesIn(t, dir); left != "" {
		t.Errorf("left: %s", left)
	}
	if err := os.WriteFile(filepath.Join(dir, ".boot.tmp-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	openDir(t, dir)
	if left := filesIn(t, dir); strings.Contains(left, "tmp") {
		t.Errorf("left: %s", left)
	}
}
