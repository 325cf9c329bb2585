package tunnel

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	wg "golang.zx2c4.com/wireguard/device"

	"github.com/shoal-dev/shoal/internal/residence"
)

const (
	// memoryLimit is from which size on, in bytes, garbage is collected as hard as need be. It is no bound of what is in use.
	memoryLimit = 96 << 20
	// gcPercent is how much garbage may gather below that, in percent of what is in use.
	gcPercent = 50
	// rest is how long nothing may have moved for memory to be given back.
	rest = 15 * time.Second
)

// Main is the process; its arguments are those that Tunnel starts it with. It returns an exit status.
func Main(args []string) int {
	ready := os.NewFile(3, "ready")
	err := serve(args, ready)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "tunnel:", err)
	_, _ = ready.WriteString(err.Error()) // nobody listens any more if it had begun
	return 1
}

// serve encrypts until the device is gone.
func serve(args []string, ready *os.File) error {
	flags := flag.NewFlagSet("tunnel", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	name := flags.String("device", "", "`name` of the interface")
	port := flags.Uint("port", 0, "UDP `port`")
	socket := flags.String("socket", "", "`path` on which it is configured")
	lock := flags.String("lock", "", "`file` to hold locked")
	mount := flags.String("mount", "/sys/fs/cgroup", "where the cgroup file systems are")
	cgroup := flags.String("cgroup", "", "its own, from each controller's root")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *name == "" || *port == 0 || *port > 65535 || *socket == "" || *lock == "" || flags.NArg() > 0 {
		return errors.New("usage: -device NAME -port PORT -socket PATH -lock FILE [-cgroup PATH]")
	}
	held, err := hold(*lock)
	if err != nil {
		return err
	}
	defer held.Close()
	protect(*mount, *cgroup)

	dev, err := openDevice(*name)
	if err != nil {
		return err
	}
	log := &wg.Logger{Verbosef: wg.DiscardLogf, Errorf: complain()}
	tunnel := wg.NewDevice(dev, patient{conn.NewStdNetBind()}, log)
	defer tunnel.Close()
	if err := tunnel.IpcSet(fmt.Sprintf("listen_port=%d\n", *port)); err != nil {
		return fmt.Errorf("UDP port %d: %w", *port, err)
	}
	if err := tunnel.Up(); err != nil {
		return fmt.Errorf("UDP port %d: %w", *port, err)
	}
	l, err := listen(*socket)
	if err != nil {
		return err
	}
	defer l.Close()
	go answer(l, tunnel)
	_ = residence.Unmap() // starting up went through far more of the binary than it needs
	_, _ = ready.WriteString("1")
	ready.Close()
	keepSmall(tunnel.Wait(), dev)
	return nil
}

// protect keeps the process from sharing the agent's fate. What fails is told, and no reason not to run.
func protect(mount, cgroup string) {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0); err != nil {
		fmt.Fprintln(os.Stderr, "tunnel: out of memory it may be killed like any other:", err)
	}
	if cgroup == "" {
		return
	}
	if err := enter(mount, cgroup); err != nil {
		fmt.Fprintln(os.Stderr, "tunnel: it shares a cgroup with the agent:", err)
	}
}

// complaints bounds what the process writes into its log: peers that are away fail with every packet.
const complaints = 1000

func complain() func(format string, args ...any) {
	left := make(chan struct{}, complaints)
	return func(format string, args ...any) {
		select {
		case left <- struct{}{}:
			fmt.Fprintf(os.Stderr, time.Now().UTC().Format(time.RFC3339)+" "+format+"\n", args...)
		default:
		}
	}
}

// listen opens the socket, for root alone.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed: the lock is ours
		return nil, fmt.Errorf("socket: %w", err)
	}
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return l, nil
}

// answer serves the configuration protocol until the listener is closed.
func answer(l net.Listener, tunnel *wg.Device) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // too many files, say
			continue
		}
		go tunnel.IpcHandle(c)
	}
}

// keepSmall gives memory back each time that nothing moves any more, until ended.
func keepSmall(ended <-chan struct{}, dev *device) {
	tick := time.NewTicker(rest)
	defer tick.Stop()
	var seen uint64
	small := false
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if now := dev.moved.Load(); now != seen {
			seen, small = now, false
			continue
		}
		if !small {
			small = true
			debug.FreeOSMemory()
			_ = residence.Unmap()
		}
	}
}
