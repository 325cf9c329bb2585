package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// process is another process whose end is noticed, be it a child or not. It costs a file descriptor and a
// goroutine, no thread.
type process struct {
	pid       int
	exited    chan struct{} // closed when it ended
	unwatched chan struct{} // closed when nobody wants to know any more
	fd        *os.File
	once      sync.Once
}

// watchPid begins to watch pid. The caller knows that pid is the process it means.
func watchPid(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	p := &process{pid: pid, exited: make(chan struct{}), unwatched: make(chan struct{}), fd: os.NewFile(uintptr(fd), "pidfd")}
	raw, err := p.fd.SyscallConn()
	if err != nil {
		p.fd.Close()
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	go func() {
		defer p.fd.Close()
		ended := false
		if err := raw.Read(func(fd uintptr) bool {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, _ := unix.Poll(poll, 0)
			ended = n > 0
			return ended
		}); err != nil && !ended {
			return // unwatched
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // a zombie if it was our child; else refused
		close(p.exited)
	}()
	return p, nil
}

// unwatch ends the watching; exited is not closed any more.
func (p *process) unwatch() {
	p.once.Do(func() {
		close(p.unwatched)
		_ = p.fd.SetReadDeadline(time.Unix(1, 0))
	})
}

// goneWithin bounds how long a process may take to be gone after SIGKILL.
const goneWithin = 5 * time.Second

// kill kills a process, be it a child or not, and waits until it is gone. The caller knows that pid is the process it
// means; one that is gone already is fine.
func kill(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(goneWithin); time.Now().Before(deadline); {
		if n, _ := unix.Poll(poll, 100); n > 0 {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			return nil
		}
	}
	return fmt.Errorf("kill process %d: it does not end", pid)
}

// startReady starts cmd, which must write a byte to file descriptor 3 once it is of use, and waits for that. The
// files of inherit follow from descriptor 4 on.
func startReady(ctx context.Context, cmd *exec.Cmd, patience time.Duration, inherit ...*os.File) (*process, error) {
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
	p, err := watchPid(pid)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	_ = cmd.Process.Release()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = r.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		<-p.exited
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it ended at once")
		}
		return nil, errors.Join(ctx.Err(), fmt.Errorf("wait until it is ready: %w", err))
	}
	return p, nil
}
