package pidfd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// maxReason bounds why a process says that it is of no use, in bytes.
const maxReason = 4096

// StartReady starts cmd and waits until it is of use: it writes '1' to file descriptor 3 then, or in words why it is not. The
// files of inherit follow from descriptor 4 on.
func StartReady(ctx context.Context, cmd *exec.Cmd, patience time.Duration, inherit ...*os.File) (*Process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.ExtraFiles = append([]*os.File{w}, inherit...)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	p, err := Watch(pid)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	_ = cmd.Process.Release()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = r.SetReadDeadline(time.Now().Add(patience))
	first := make([]byte, 1)
	_, err = io.ReadFull(r, first)
	switch {
	case err == nil && first[0] == '1':
		return p, nil
	case err == nil:
		rest, _ := io.ReadAll(io.LimitReader(r, maxReason))
		err = errors.New(strings.TrimSpace(string(first) + string(rest)))
	case errors.Is(err, io.EOF):
		err = errors.New("it ended at once")
	default:
		err = errors.Join(ctx.Err(), fmt.Errorf("wait until it is ready: %w", err))
	}
	p.Unwatch()
	return nil, errors.Join(err, Kill(pid))
}
