// Package pidfd watches and ends other processes, be they children or not: those of a node outlive the agent that started
// them, and the next agent finds them. A pidfd means one process and no later one of the same number.
package pidfd

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Process is another process whose end is noticed, be it a child or not. It costs a file descriptor and a
// goroutine, no thread.
type Process struct {
	PID       int
	Exited    chan struct{} // closed when it ended
	Unwatched chan struct{} // closed when nobody wants to know any more
	fd        *os.File
	once      sync.Once
}

// Watch begins to watch pid. The caller knows that pid is the process it means.
func Watch(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	p := &Process{PID: pid, Exited: make(chan struct{}), Unwatched: make(chan struct{}), fd: os.NewFile(uintptr(fd), "pidfd")}
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
		close(p.Exited)
	}()
	return p, nil
}

// Unwatch ends the watching; Exited is not closed any more.
func (p *Process) Unwatch() {
	p.once.Do(func() {
		close(p.Unwatched)
		_ = p.fd.SetReadDeadline(time.Unix(1, 0))
	})
}

// goneWithin bounds how long a process may take to be gone after SIGKILL.
const goneWithin = 5 * time.Second

// Kill kills a process, be it a child or not, and waits until it is gone. The caller knows that pid is the process it
// means; one that is gone already is fine.
func Kill(pid int) error {
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
