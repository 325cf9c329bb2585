package containers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/plan"
	"github.com/shoal-dev/shoal/nodeagent/containers/crilog"
	"github.com/shoal-dev/shoal/nodeagent/containers/record"
)

// What is read of a container's last word, as kubelet has it.
const (
	messageBytes    = 4096 // of the file at terminationMessagePath: its end
	messageLogLines = 80   // of the log in its place: the last ones
	messageLogBytes = 2048
)

// messageFile is the file that is bound to the container's terminationMessagePath, "" if it has none. It lies beside
// the writable layer and not in the run directory, whose memory a container must not fill.
func (r *Runtime) messageFile(p *pod, l plan.Launch) string {
	if l.Container.TerminationMessagePath == "" {
		return ""
	}
	return filepath.Join(r.scratchDir(p, l.Container.Name, l.Attempt), "termination-log")
}

// makeMessageFile makes it empty and, whatever the umask, for every user to write.
func makeMessageFile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o666), f.Close())
}

// lastWords is what an instance that has ended left as its termination message. What cannot be read is said in it.
func lastWords(meta record.Instance, state record.State) string {
	text, err := endOf(meta.Message, messageBytes)
	if err == nil && text == "" && meta.MessageLog && state.ExitCode != 0 && meta.Log != "" {
		text, err = crilog.Tail(meta.Log, messageLogLines, messageLogBytes)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Sprintf("read its termination message: %v", err)
	}
	return strings.ToValidUTF8(text, "") // a rune may have been cut
}

// endOf reads the last bytes of the file at path; "" names none.
func endOf(path string, most int64) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	b := make([]byte, min(most, st.Size()))
	n, err := f.ReadAt(b, st.Size()-int64(len(b)))
	if errors.Is(err, io.EOF) { // something outside the container still writes to it
		err = nil
	}
	return string(b[:n]), err
}
