package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is how many bytes of questions wait while there is no server: the kernel counts some 800 for each, so that a
// thousand fit.
const receiveBuffer = 1 << 20

// sockets are those of one address, over UDP and TCP.
type sockets struct {
	packets     net.PacketConn
	connections net.Listener
}

// openTries and openPause bound how long an address is waited for that somebody has who may be about to go: a process that the
// agent before was about to start when it was killed has its sockets, until it execs; one that was killed itself has them until it is
// gone, which took more than 0.2 s on a machine with five times the work it could do.
const (
	openTries = 100
	openPause = 10 * time.Millisecond
)

// open takes over the sockets that process holder keeps open for at, if it does, and binds new ones otherwise.
func open(at netip.AddrPort, holder int) (s sockets, err error) {
	for try := 0; ; try++ {
		if holder != 0 {
			held, notHeld := heldBy(holder, at)
			if notHeld == nil {
				return held, nil
			}
			err = notHeld
		}
		s, fresh := bind(at)
		if !errors.Is(fresh, syscall.EADDRINUSE) || try == openTries {
			if fresh != nil {
				fresh = errors.Join(fresh, err) // why those that are held were not taken over
			}
			return s, fresh
		}
		time.Sleep(openPause)
	}
}

func bind(at netip.AddrPort) (s sockets, err error) {
	if s.packets, err = net.ListenPacket("udp", at.String()); err != nil {
		return s, err
	}
	// With port 0 (in tests) TCP takes the port that UDP was given.
	if s.connections, err = net.Listen("tcp", s.packets.LocalAddr().String()); err != nil {
		return s, errors.Join(err, s.packets.Close())
	}
	return s, errors.Join(widen(s.packets.(*net.UDPConn)))
}

// widen gives a socket room for what comes while nobody reads, beyond what the machine grants to everyone if it may.
func widen(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
	})
}

var errNotHeld = errors.New("it does not hold both sockets")

// heldBy gives copies of the sockets of at that another process has open.
func heldBy(pid int, at netip.AddrPort) (s sockets, err error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return s, fmt.Errorf("sockets of process %d: %w", pid, err)
	}
	defer unix.Close(process)
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	names, err := os.ReadDir(dir)
	if err != nil {
		return s, fmt.Errorf("sockets of process %d: %w", pid, err)
	}
	defer func() {
		if err == nil {
			return
		}
		if s.packets != nil {
			_ = s.packets.Close()
		}
		if s.connections != nil {
			_ = s.connections.Close()
		}
		s = sockets{}
	}()
	for _, name := range names {
		number, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		if what, err := os.Readlink(filepath.Join(dir, name.Name())); err != nil || len(what) < 7 || what[:7] != "socket:" {
			continue
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if errors.Is(err, unix.EBADF) { // it was a connection that is closed by now, of an agent that was killed say
			continue
		}
		if err != nil {
			return s, fmt.Errorf("socket %d of process %d: %w", number, pid, err)
		}
		if err := s.take(fd, at); err != nil && !errors.Is(err, unix.ENOTSOCK) { // its number may be another file's by now
			return s, fmt.Errorf("socket %d of process %d: %w", number, pid, err)
		}
	}
	if s.packets == nil || s.connections == nil {
		return s, fmt.Errorf("sockets of process %d: %w", pid, errNotHeld)
	}
	return s, nil
}

// take keeps a socket if it is one of at's, and closes fd.
func (s *sockets) take(fd int, at netip.AddrPort) (err error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close() // what is made of it has a copy
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	v4, ok := name.(*unix.SockaddrInet4)
	if !ok || netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port)) != at {
		return nil
	}
	switch {
	case kind == unix.SOCK_DGRAM && s.packets == nil:
		s.packets, err = net.FilePacketConn(file)
	case kind == unix.SOCK_STREAM && s.connections == nil:
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
			return err // a connection
		}
		s.connections, err = net.FileListener(file)
	}
	return err
}

// Files are copies of the sockets, for a process that is to hold them when this one has ended: what is asked meanwhile waits
// in them for the next server, instead of being refused. The caller closes them.
func (s *Server) Files() ([]*os.File, error) {
	packets, err := copyOf(s.packets.(*net.UDPConn))
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	connections, err := copyOf(s.connections.(*net.TCPListener))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dns: %w", err), packets.Close())
	}
	return []*os.File{packets, connections}, nil
}

// copyOf is a copy of a socket's descriptor. Handed to a process it stays as it is, while that of the socket's own method File
// would make all copies block, the server's as well.
func copyOf(c syscall.Conn) (*os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, failed := -1, error(nil)
	if err := raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}
