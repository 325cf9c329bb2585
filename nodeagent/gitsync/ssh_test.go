package gitsync

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/shoal-dev/shoal/engine/source"
)

func newKey(t testing.TB) (ssh.Signer, []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// sshHost is a host that lets one key in and runs the real git-upload-pack and git-receive-pack.
func sshHost(t testing.TB, host ssh.Signer, client ssh.PublicKey, address string) net.Listener {
	t.Helper()
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(client.Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSH(conn, config)
		}
	}()
	return l
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		ch, requests, err := n.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				r.Reply(false, nil)
				continue
			}
			r.Reply(true, nil)
			c := exec.Command("sh", "-c", string(r.Payload[4:]))
			c.Env = gitEnv(os.TempDir())
			c.Stdout, c.Stderr = ch, ch.Stderr()
			in, err := c.StdinPipe()
			if err != nil {
				return
			}
			go func() { // apart, so that a program that ends does not wait for its input to
				defer in.Close()
				io.Copy(in, ch)
			}()
			var code uint32
			if err := c.Run(); err != nil {
				code = uint32(max(c.ProcessState.ExitCode(), 1))
			}
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
			ch.Close()
		}
	}
}

// TestFault_G15 changes the host's ssh key and its certificate under the mirror.
func TestFault_G15(t *testing.T) {
	t.Run("ssh", func(t *testing.T) {
		u := newUpstream(t)
		a := u.commit("a", map[string]string{"x": "1"})
		hostKey, _ := newKey(t)
		client, clientPEM := newKey(t)
		l := sshHost(t, hostKey, client.PublicKey(), "127.0.0.1:0")
		address := l.Addr().String()
		known := filepath.Join(t.TempDir(), "known_hosts")
		line := knownhosts.Line([]string{knownhosts.Normalize(address)}, hostKey.PublicKey())
		if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		auth := Auth{Key: clientPEM, KnownHosts: []string{known}}
		m := open(t, Options{URL: "ssh://git@" + address + u.dir, Auth: auth})
		if _, err := m.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		unmoved(t, m, a)
		b := u.commit("b", map[string]string{"x": "2"})
		if _, err := m.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		unmoved(t, m, b)
		u.commit("c", nil)

		l.Close()
		other, _ := newKey(t)
		l = sshHost(t, other, client.PublicKey(), address)
		_, err := m.Fetch(t.Context())
		wrong(t, "another host key", err, "ssh-ed25519 "+ssh.FingerprintSHA256(other.PublicKey())+"; expected ssh-ed25519 "+ssh.FingerprintSHA256(hostKey.PublicKey()))
		unmoved(t, m, b)

		if err := os.WriteFile(known, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = m.Fetch(t.Context())
		wrong(t, "a host that is not known", err, "is not in known_hosts; it showed ssh-ed25519 ")
		if err := os.WriteFile(known, []byte("@revoked "+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		l.Close()
		_ = sshHost(t, hostKey, client.PublicKey(), address)
		if _, err = m.Fetch(t.Context()); err == nil {
			t.Error("a revoked host key was taken")
		}
		unmoved(t, m, b)

		if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, strange := newKey(t)
		m.opt.Auth.Key = strange
		_, err = m.Fetch(t.Context())
		wrong(t, "a key that may not", err, "unable to authenticate")
		m.opt.Auth = Auth{Key: clientPEM}
		_, err = m.Fetch(t.Context())
		wrong(t, "no known_hosts", err, "ssh needs KnownHosts")
		m.opt.Auth = auth
		m.opt.URL = "ssh://git@" + address + u.dir + "/gone"
		_, err = m.Fetch(t.Context())
		wrong(t, "no repository", err, "does not appear to be a git repository")
		unmoved(t, m, b)
	})

	t.Run("https", func(t *testing.T) {
		u := newUpstream(t)
		a := u.commit("a", map[string]string{"x": "1"})
		to, err := url.Parse(u.serve())
		if err != nil {
			t.Fatal(err)
		}
		good, pemOf := certificate(t, time.Now().Add(time.Hour))
		old, pemOfOld := certificate(t, time.Now().Add(-time.Hour))
		other, _ := certificate(t, time.Now().Add(time.Hour))
		current := &good
		s := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: to.Scheme, Host: to.Host}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{*current}}, nil
		}}
		s.StartTLS()
		defer s.Close()
		remote := s.URL + to.Path
		dir := filepath.Join(t.TempDir(), "git")
		fetch := func(ca []byte) error {
			m := open(t, Options{Dir: dir, URL: remote, Auth: Auth{CA: ca}})
			defer m.Close()
			_, err := m.Fetch(t.Context())
			if head, e := m.Head("main"); e == nil && head != source.ID(a) {
				t.Errorf("the mirror is at %s", head)
			}
			return err
		}
		if err := fetch(pemOf); err != nil {
			t.Fatal(err)
		}
		u.commit("b", nil)
		current = &other
		wrong(t, "another certificate", fetch(pemOf), "x509: ")
		current = &old
		wrong(t, "an expired certificate", fetch(pemOfOld), "x509: certificate has expired")
		wrong(t, "no authority that is known", fetch(nil), "x509: certificate")
		http.DefaultClient.CloseIdleConnections()
	})
}

// certificate is its own authority.
func certificate(t testing.TB, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "git"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestURLs says which addresses are taken, and that no error repeats a password.
func TestURLs(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"https://git.example.org/team/x.git", "https://git.example.org/team/x.git"},
		{"git@git.example.org:team/x.git", "ssh://git@git.example.org/team/x.git"},
		{"ssh://git@git.example.org:2222/~/x.git", "ssh://git@git.example.org:2222/~/x.git"},
		{"/srv/x.git", "file:///srv/x.git"},
		{"file:///srv/x.git", "file:///srv/x.git"},
		{"http://localhost:7443/repo.git", "http://localhost:7443/repo.git"},
		{"http://git.example.org/x", "http is for loopback only"},
		{"ftp://git.example.org/x", "is none of https, http, ssh, file"},
		{"ext::sh -c id", "expected https://"},
		{"file://host/x", "expected file:///absolute/path"},
		{"ssh://-oProxyCommand=id/x", "host begins with a dash"},
		{"https://git.example.org/\x01", "url"},
		{"https:///x", "has no host"},
		{"x.git", "expected https://"},
		{"http://ada:hunter2@git.example.org/x", "http is for loopback only"},
	} {
		u, err := parseURL(c.url)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = u.String()
		}
		if !strings.Contains(got, c.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %s, want %s", c.url, got, c.want)
		}
	}
}
