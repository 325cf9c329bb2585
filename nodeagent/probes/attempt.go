package probes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxText bounds what is kept of an answer or an output, in bytes.
const maxText = 1 << 10

// outcome is how one attempt went.
type outcome struct {
	probe *probe
	good  bool
	text  string // why not good
	err   error  // the attempt could not be made: it says nothing of the container
}

// attempt asks once, in a goroutine of its own.
func (l *loop) attempt(p *probe, ctx context.Context, t Target) {
	ctx, cancel := context.WithTimeout(ctx, seconds(p.spec.TimeoutSeconds, 1))
	defer cancel()
	text, err := l.ask(ctx, p, t)
	o := outcome{probe: p, good: err == nil && text == "", err: err}
	if text != "" {
		o.text = fmt.Sprintf("%s probe failed: %s", p.kind, clip(text))
	}
	l.done <- o
}

// ask makes one attempt: "" is success, any other text is why it failed.
func (l *loop) ask(ctx context.Context, p *probe, t Target) (string, error) {
	switch h := p.spec.ProbeHandler; {
	case h.Exec != nil:
		return l.askExec(ctx, p.key, t.ID, h.Exec.Command)
	case h.HTTPGet != nil:
		port, err := resolve(h.HTTPGet.Port, t.Container)
		if err != nil {
			return err.Error(), nil
		}
		return askHTTP(ctx, h.HTTPGet, t.IP, port), nil
	case h.TCPSocket != nil:
		port, err := resolve(h.TCPSocket.Port, t.Container)
		if err != nil {
			return err.Error(), nil
		}
		host := h.TCPSocket.Host
		if host == "" {
			host = t.IP.String()
		}
		return askTCP(ctx, net.JoinHostPort(host, port)), nil
	case h.GRPC != nil:
		service := ""
		if h.GRPC.Service != nil {
			service = *h.GRPC.Service
		}
		return askGRPC(ctx, net.JoinHostPort(t.IP.String(), strconv.Itoa(int(h.GRPC.Port))), service), nil
	}
	return "", errors.New("the probe names no action")
}

// resolve turns a port's number or name into a number.
func resolve(port intstr.IntOrString, c *corev1.Container) (string, error) {
	n := port.IntValue()
	if port.Type == intstr.String {
		for _, have := range c.Ports {
			if have.Name == port.StrVal {
				n = int(have.ContainerPort)
			}
		}
	}
	if n < 1 || n > 65535 {
		return "", fmt.Errorf("the container has no port %q", port.String())
	}
	return strconv.Itoa(n), nil
}

// askExec runs a command; exit code 0 is success. One that does not end in time has failed.
func (l *loop) askExec(ctx context.Context, key Key, id string, command []string) (string, error) {
	if l.opt.Exec == nil {
		return "", errors.New("exec probes cannot be made here")
	}
	code, output, err := l.opt.Exec(ctx, key, id, command)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "the command did not end in time", nil
	case err != nil:
		return "", err
	case code != 0:
		return fmt.Sprintf("exit code %d: %s", code, output), nil
	}
	return "", nil
}

// askTCP succeeds when a connection is made.
func askTCP(ctx context.Context, address string) string {
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err.Error()
	}
	conn.Close()
	return ""
}

// dialer leaves no connection in TIME_WAIT for longer than a second: probes would use up the host's ports.
var dialer = &net.Dialer{
	KeepAlive: -1,
	Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			// Best effort: a probe without it is as good.
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 1})
		})
	},
}

// clip shortens a text for people and makes it valid UTF-8.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.TrimSpace(s), "\uFFFD")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}
