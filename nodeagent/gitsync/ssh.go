package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// sshRemote runs git-upload-pack or git-receive-pack on a host. A conversation is one connection.
type sshRemote struct {
	what   service
	url    *url.URL
	auth   Auth
	client *ssh.Client
	in     io.WriteCloser
	out    io.Reader
	stderr tail
	caps   map[string]bool
	conn   net.Conn
	stop   func() bool // ends the watch over the context of the step at hand
}

func (s *sshRemote) Advertised(ctx context.Context) (*advert, error) {
	if err := s.dial(ctx); err != nil {
		return nil, err
	}
	session, err := s.client.NewSession()
	if err != nil {
		return nil, fmt.Errorf("ssh: %w", err)
	}
	session.Stderr = &s.stderr
	if s.in, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	if s.out, err = session.StdoutPipe(); err != nil {
		return nil, err
	}
	// The path is the operator's; quoted for the host's shell as git quotes it.
	path := "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(s.url.Path) + "'"
	if err := session.Start(s.what.program() + " " + path); err != nil {
		return nil, fmt.Errorf("ssh: %w", err)
	}
	a, err := readAdvert(s.out, false)
	if err != nil {
		if _, ended := errors.AsType[*ssh.ExitError](session.Wait()); ended {
			return nil, &answerError{s.explain(err)}
		}
		return nil, s.explain(err)
	}
	s.caps = a.caps
	s.stop() // the next step has a context of its own
	return a, nil
}

// dial connects and shakes hands. The connection ends with ctx.
func (s *sshRemote) dial(ctx context.Context) error {
	config, err := s.auth.sshConfig(s.url.User.Username())
	if err != nil {
		return err
	}
	port := orDefault(s.url.Port(), "22")
	address := net.JoinHostPort(s.url.Hostname(), port)
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	s.conn = conn
	s.watch(ctx)
	if check, err := knownhosts.New(s.auth.KnownHosts...); err == nil {
		config.HostKeyAlgorithms = s.auth.knownAlgorithms(check, address, conn.RemoteAddr())
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		s.stop()
		conn.Close()
		if key, ok := errors.AsType[*HostKeyError](err); ok {
			return key
		}
		return fmt.Errorf("ssh: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	s.client = ssh.NewClient(c, channels, requests)
	return nil
}

// watch ends the connection with ctx: nothing else ends a read of ssh.
func (s *sshRemote) watch(ctx context.Context) {
	s.stop = context.AfterFunc(ctx, func() { s.conn.Close() })
}

func (s *sshRemote) Fetch(ctx context.Context, ask bare.Ask) (*delivery, error) {
	s.watch(ctx)
	if _, err := io.WriteString(s.in, encodeAsk(ask, s.caps)); err != nil {
		return nil, s.explain(err)
	}
	d, err := readDelivery(s.out, ask, s.caps)
	if err != nil {
		return nil, s.explain(err)
	}
	d.close = func() {}
	return d, nil
}

func (s *sshRemote) Push(ctx context.Context, u bare.Move, commit []byte) error {
	s.watch(ctx)
	body, err := encodePush(u, commit, s.caps)
	if err != nil {
		return err
	}
	if _, err := s.in.Write(body); err != nil {
		return s.explain(err)
	}
	err = readReport(s.out, u.Name, s.caps)
	if _, refused := errors.AsType[*RefusedError](err); err != nil && !refused {
		return s.explain(err)
	}
	return err
}

func (s *sshRemote) Close() {
	if s.client != nil {
		if s.in != nil {
			_, _ = io.WriteString(s.in, "0000") // nothing wanted, in case nothing was asked
			s.in.Close()
		}
		s.client.Close()
		s.stop()
	}
}

// explain adds what the host wrote to its error channel.
func (s *sshRemote) explain(err error) error {
	if text := said(&s.stderr); text != "" {
		return fmt.Errorf("%w%s", err, text)
	}
	return err
}
