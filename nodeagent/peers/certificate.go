package peers

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

const (
	// lifetime of a node's certificate. It is renewed once two thirds of it are over, so a holder of the authority's
	// key may be away for eight hours before anybody notices.
	lifetime = 24 * time.Hour

	// skew is how far two clocks may differ before somebody says so.
	skew = time.Hour
)

// noEnd is the date RFC 5280 gives to certificates without a well-defined end.
var noEnd = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// NodeOf is the node whose public key this is.
func NodeOf(key ed25519.PublicKey) place.NodeID {
	sum := sha256.Sum256(key)
	return place.NodeID(hex.EncodeToString(sum[:8]))
}

func pinOf(c *x509.Certificate) Pin { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// authority is one of the ring's certificate authorities; key is nil on nodes that do not hold it.
type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
	pin  Pin
}

// newAuthority makes an authority for a ring. Its certificate has no end: an authority ends by being dropped from
// every node's list, so no ring stops on an anniversary.
func newAuthority(ring string, now time.Time) (authority, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("make the ring's authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "shoal ring " + ring},
		NotBefore:             now.Add(-skew),
		NotAfter:              noEnd,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs nodes, no further authorities
		URIs:                  []*url.URL{{Scheme: "shoal", Host: ring}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return authority{}, fmt.Errorf("make the ring's authority: %w", err)
	}
	a, err := parseAuthority(der, ring)
	a.key = key
	return a, err
}

// parseAuthority checks that der is the certificate of an authority of this ring.
func parseAuthority(der []byte, ring string) (authority, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("authority: %w", err)
	}
	switch _, ed := c.PublicKey.(ed25519.PublicKey); {
	case !ed || !c.IsCA || !c.BasicConstraintsValid:
		return authority{}, errors.New("authority: the certificate is not that of a ring's authority")
	case len(c.URIs) != 1 || c.URIs[0].Scheme != "shoal" || c.URIs[0].Host != ring:
		return authority{}, fmt.Errorf("authority: the certificate is not of ring %s but of %v", ring, c.URIs)
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		return authority{}, fmt.Errorf("authority: %w", err)
	}
	return authority{cert: c, pin: pinOf(c)}, nil
}

// sign gives the node with this public key a certificate that begins now.
func (a authority) sign(ring string, key ed25519.PublicKey, now time.Time) (*x509.Certificate, error) {
	node := NodeOf(key)
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: string(node)},
		NotBefore:             now,
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{{Scheme: "shoal", Host: ring, Path: "/" + string(node)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of node %s: %w", node, err)
	}
	return x509.ParseCertificate(der)
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f // positive
	return new(big.Int).SetBytes(b)
}

// nodeIn returns the node a certificate names, if it is of this ring and the name follows from its key. Who signed it
// is not looked at.
func nodeIn(c *x509.Certificate, ring string) (place.NodeID, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "shoal" || c.IsCA {
		return "", errors.New("the certificate is not that of a node")
	}
	if of := c.URIs[0].Host; of != ring {
		return "", fmt.Errorf("the certificate is of another ring, %s", of)
	}
	key, ok := c.PublicKey.(ed25519.PublicKey)
	if !ok {
		return "", fmt.Errorf("the certificate's key is a %T, expected ed25519", c.PublicKey)
	}
	node := NodeOf(key)
	if name := strings.TrimPrefix(c.URIs[0].Path, "/"); name != string(node) {
		return "", fmt.Errorf("the certificate names node %s, its key is that of %s", name, node)
	}
	return node, nil
}

// ExpiredError says that a certificate is past its end.
type ExpiredError struct {
	Node place.NodeID
	End  time.Time
	Now  time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the certificate of node %s ended %s ago, at %s (now is %s): it was off for long, or one of the two clocks is wrong",
		e.Node, e.Now.Sub(e.End).Round(time.Second), e.End.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// inDate refuses a certificate whose end is past. A certificate that begins in the future is accepted:
// it was signed by the ring's authority, so it is this clock that is late.
func inDate(c *x509.Certificate, node place.NodeID, now time.Time) error {
	if now.After(c.NotAfter) {
		return &ExpiredError{Node: node, End: c.NotAfter, Now: now}
	}
	return nil
}
