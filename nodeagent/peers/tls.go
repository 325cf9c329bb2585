package peers

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/shoal-dev/shoal/engine/place"
)

// The protocols of the listener, told apart by ALPN.
const (
	protoJoin     = "shoal-join"     // the server proves itself by the token's pin; the joiner has no certificate yet
	protoRenew    = "shoal-renew"    // mTLS, where a certificate may be past its end or signed by a dropped authority
	protoRaft     = "shoal-raft"     // mTLS, a raw stream
	protoCommands = "shoal-commands" // mTLS, a raw stream
	protoHTTP     = "h2"             // mTLS, HTTP/2
)

var errNoCertificate = errors.New("it showed no certificate")

// verify says which node's certificate this is, if it is one of this ring, signed by a trusted authority, and in date.
// Whether the node is Known is not its matter.
func (p *Peers) verify(chain []*x509.Certificate) (place.NodeID, error) {
	return p.check(chain, false, true)
}

// verifyOld is verify for a renewal: dropped authorities count, and the end is looked at when the answer is made, which
// can say so in words.
func (p *Peers) verifyOld(chain []*x509.Certificate) (place.NodeID, error) {
	return p.check(chain, true, false)
}

func (p *Peers) check(chain []*x509.Certificate, retired, dated bool) (place.NodeID, error) {
	if len(chain) == 0 {
		return "", errNoCertificate
	}
	t := p.trust.Load()
	node, err := nodeIn(chain[0], t.ring)
	if err != nil {
		return "", err
	}
	if _, err := t.by(chain[0], retired); err != nil {
		p.doubtTrust(chain[0], node)
		return "", fmt.Errorf("node %s: %w", node, err)
	}
	now := p.now()
	p.doubtClock(chain[0], now)
	if !dated {
		return node, nil
	}
	return node, inDate(chain[0], node, now)
}

// UnknownError says that a node is not of the ring: it left, or it never was.
type UnknownError struct{ Node place.NodeID }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("node %s is not of this ring: it left, was removed or never joined", e.Node)
}

// base are the settings of every connection. Certificates are checked by our own rules in VerifyConnection; what
// crypto/tls would check, names and dates, does not fit nodes whose addresses change and whose clocks may be wrong.
// Sessions are not resumed, so that the rules are asked each time.
func base(protocol string, verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol},
		InsecureSkipVerify:     true, // VerifyConnection below does it
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != protocol {
				return fmt.Errorf("it does not speak %s", protocol)
			}
			return verify(s)
		},
	}
}

// serverConfig is for whatever protocol a client offers first.
func (p *Peers) serverConfig() *tls.Config {
	byName := map[string]*tls.Config{
		protoJoin: base(protoJoin, func(tls.ConnectionState) error { return nil }),
		protoRenew: base(protoRenew, func(s tls.ConnectionState) error {
			return p.known(p.verifyOld(s.PeerCertificates))
		}),
		protoRaft:     base(protoRaft, func(s tls.ConnectionState) error { return p.known(p.verify(s.PeerCertificates)) }),
		protoCommands: base(protoCommands, func(s tls.ConnectionState) error { return p.known(p.verify(s.PeerCertificates)) }),
		protoHTTP:     base(protoHTTP, func(s tls.ConnectionState) error { return p.known(p.verify(s.PeerCertificates)) }),
	}
	for name, c := range byName {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.cert.Load(), nil }
		if name != protoJoin {
			c.ClientAuth = tls.RequireAnyClientCert
		}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			for _, name := range hello.SupportedProtos {
				if c := byName[name]; c != nil {
					return c, nil
				}
			}
			return nil, fmt.Errorf("it offers the protocols %q, none of ours", hello.SupportedProtos)
		},
	}
}

// known is the error, or that the node is not Known.
func (p *Peers) known(node place.NodeID, err error) error {
	if err == nil && !p.Known(node) {
		err = &UnknownError{Node: node}
	}
	return err
}

// clientConfig is for a connection to one node: nobody else may answer.
func (p *Peers) clientConfig(protocol string, node place.NodeID) *tls.Config {
	c := base(protocol, func(s tls.ConnectionState) error {
		var got place.NodeID
		var err error
		if protocol == protoRenew {
			got, err = p.verifyRenewer(s.PeerCertificates)
		} else {
			got, err = p.verify(s.PeerCertificates)
		}
		if err = p.known(got, err); err == nil && got != node {
			err = fmt.Errorf("node %s answers in place of node %s", got, node)
		}
		return err
	})
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.cert.Load(), nil }
	return c
}

// verifyRenewer believes the key alone: a node whose clock is wrong, or that missed the authorities' exchange, has
// nothing else to go by. The NodeID follows from the key, and the ledger knows the NodeID. What such a server answers
// gives the asker a certificate; if that is a false one, the others refuse it.
func (p *Peers) verifyRenewer(chain []*x509.Certificate) (place.NodeID, error) {
	if len(chain) == 0 {
		return "", errNoCertificate
	}
	return nodeIn(chain[0], p.trust.Load().ring)
}

// certificate is what this node shows: its own and that of the authority, which a joiner compares with its pin.
func certificate(c *x509.Certificate, by *x509.Certificate, key ed25519.PrivateKey) *tls.Certificate {
	shown := &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
	if by != nil {
		shown.Certificate = append(shown.Certificate, by.Raw)
	}
	return shown
}
