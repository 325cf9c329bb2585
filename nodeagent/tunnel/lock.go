package tunnel

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/shoal-dev/shoal/internal/pidlock"
)

// protocol is the version of what the process and the agent have agreed on: its arguments, and the meaning of its lock.
const protocol = 1

// hold takes the lock at path for as long as the file that it returns is open, and writes the version into it.
func hold(path string) (*os.File, error) {
	f, err := pidlock.Hold(path)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(protocol)+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// holder is the process that holds the lock at path, and its version; 0 if none does. The process must not ask itself.
func holder(path string) (pid, version int, err error) {
	if pid, err = pidlock.Holder(path); pid == 0 || err != nil {
		return 0, 0, err
	}
	b, _ := os.ReadFile(path)
	version, _ = strconv.Atoi(string(bytes.TrimSpace(b[:min(len(b), 16)]))) // what is no number is a version that nobody speaks
	return pid, version, nil
}
