package gitsync

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Auth is what a mirror shows to a host, and how it knows the host. Nothing is taken from the environment: no
// agent, no ~/.ssh, no netrc, no credential helper.
type Auth struct {
	User   string // https: default the URL's, then "git"; ssh: default the URL's, then "git"
	Token  string // https: the password, or the bearer token
	Bearer bool   // https: send Token as bearer
	CA     []byte // https: PEM certificates to trust instead of the system's

	Key        []byte   // ssh: private key, PEM
	Passphrase []byte   // ssh: of Key, if it is encrypted
	KnownHosts []string // ssh: files in the known_hosts format; required
}

// HostKeyError says that an ssh host did not show the key it is known by.
type HostKeyError struct {
	Host string
	Got  string   // "ssh-ed25519 SHA256:..."
	Want []string // the keys it is known by; empty if it is not known
}

func (e *HostKeyError) Error() string {
	if len(e.Want) == 0 {
		return fmt.Sprintf("host %s is not in known_hosts; it showed %s", e.Host, e.Got)
	}
	return fmt.Sprintf("host %s showed key %s; expected %s", e.Host, e.Got, strings.Join(e.Want, " or "))
}

// sshConfig builds the client's side of a handshake.
func (a Auth) sshConfig(user string) (*ssh.ClientConfig, error) {
	if len(a.KnownHosts) == 0 {
		return nil, errors.New("auth: ssh needs KnownHosts")
	}
	check, err := knownhosts.New(a.KnownHosts...)
	if err != nil {
		return nil, fmt.Errorf("auth: known_hosts: %w", err)
	}
	var signer ssh.Signer
	switch {
	case len(a.Key) == 0:
		return nil, errors.New("auth: ssh needs Key")
	case len(a.Passphrase) > 0:
		signer, err = ssh.ParsePrivateKeyWithPassphrase(a.Key, a.Passphrase)
	default:
		signer, err = ssh.ParsePrivateKey(a.Key)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: key: %w", err)
	}
	return &ssh.ClientConfig{
		User: orDefault(a.User, orDefault(user, "git")),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			err := check(host, remote, key)
			if mismatch, ok := errors.AsType[*knownhosts.KeyError](err); ok {
				e := &HostKeyError{Host: host, Got: fingerprint(key)}
				for _, k := range mismatch.Want {
					e.Want = append(e.Want, fingerprint(k.Key))
				}
				return e
			}
			return err
		},
	}, nil
}

func fingerprint(k ssh.PublicKey) string { return k.Type() + " " + ssh.FingerprintSHA256(k) }

// knownAlgorithms lists the key types a host is known by, so that a host with several keys shows one of those.
func (a Auth) knownAlgorithms(check ssh.HostKeyCallback, host string, remote net.Addr) []string {
	var mismatch *knownhosts.KeyError
	if err := check(host, remote, noKey{}); !errors.As(err, &mismatch) {
		return nil
	}
	var types []string
	for _, k := range mismatch.Want {
		if t := k.Key.Type(); t == ssh.KeyAlgoRSA {
			types = append(types, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			types = append(types, t)
		}
	}
	return types
}

// noKey is a key no host has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
