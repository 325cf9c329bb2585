package peers

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shoal-dev/shoal/internal/durable"
)

// The files of a membership. certFile is written last: without it there is no membership.
const (
	bundleFile  = "ca.pem"      // trusted authorities, the one that signs first
	retiredFile = "retired.pem" // dropped ones
	certFile    = "node.pem"    // this node's certificate
	membersFile = "members"     // those of the answer to the join, JSON
	joinedFile  = "joined"      // the id of the token by which this node joined; absent where it began the ring
)

func keyFile(p Pin) string { return "ca-" + p.Short() + ".key" }

// membership is what lies in the directory.
type membership struct {
	trust   *trust
	cert    *x509.Certificate
	members []Member
	joined  string
}

// JoinedBy is the id of the token by which the node with files in dir joined its ring last; "" if by none. A node that is
// started with this token again has nothing to do; with another one it is to Join again: its certificate is too old to
// be renewed, or it was removed from the ring meanwhile.
func JoinedBy(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, joinedFile))
	if err != nil {
		return "" // joining again does no harm
	}
	return strings.TrimSpace(string(b))
}

// Membership returns the identity of the ring that the node with files in dir belongs to, or "" if it belongs to none.
func Membership(dir string) (ring string, err error) {
	cert, err := readCertificates(filepath.Join(dir, certFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if len(cert) != 1 || len(cert[0].URIs) != 1 {
		return "", fmt.Errorf("%s: expected the certificate of one node; %s", filepath.Join(dir, certFile), mend)
	}
	return cert[0].URIs[0].Host, nil
}

const mend = "restore it, or move it away and join again with a token"

// load reads the membership of the node with this key. What is damaged is an error and stays as it is.
func load(dir string, key ed25519.PrivateKey) (*membership, error) {
	ring, err := Membership(dir)
	if err != nil {
		return nil, err
	}
	if ring == "" {
		return nil, fmt.Errorf("%s holds no certificate: this node belongs to no ring yet", dir)
	}
	m := &membership{trust: &trust{ring: ring}}
	certs, err := readCertificates(filepath.Join(dir, certFile))
	if err != nil {
		return nil, err
	}
	m.cert = certs[0]
	if node, err := nodeIn(m.cert, ring); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, certFile), err)
	} else if own := NodeOf(key.Public().(ed25519.PublicKey)); node != own {
		return nil, fmt.Errorf("%s: the certificate is that of node %s, this is %s; %s", filepath.Join(dir, certFile), node, own, mend)
	}
	if m.trust.trusted, err = readAuthorities(filepath.Join(dir, bundleFile), ring); err != nil {
		return nil, err
	}
	if len(m.trust.trusted) == 0 {
		return nil, fmt.Errorf("%s: no authority in it; %s", filepath.Join(dir, bundleFile), mend)
	}
	if m.trust.retired, err = readAuthorities(filepath.Join(dir, retiredFile), ring); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for i := range m.trust.trusted {
		if err := readKey(dir, &m.trust.trusted[i]); err != nil {
			return nil, err
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, membersFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &m.members); err != nil {
			return nil, fmt.Errorf("%s: %w; remove it once this node has caught up", filepath.Join(dir, membersFile), err)
		}
	}
	return m, nil
}

// save writes all of a membership, the certificate last.
func (m *membership) save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := m.trust.save(dir); err != nil {
		return err
	}
	if m.joined != "" {
		if err := durable.WriteFile(filepath.Join(dir, joinedFile), []byte(m.joined+"\n")); err != nil {
			return err
		}
	}
	b, err := json.Marshal(m.members)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, membersFile), append(b, '\n')); err != nil {
		return err
	}
	return saveCertificate(dir, m.cert)
}

func saveCertificate(dir string, c *x509.Certificate) error {
	return durable.WriteFile(filepath.Join(dir, certFile), certificatePEM(c.Raw))
}

// save writes the authorities, and the keys that are here: keys first, so that none is ever missing for one that signs.
func (t *trust) save(dir string) error {
	for _, a := range t.trusted {
		if a.key == nil {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(a.key)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(filepath.Join(dir, keyFile(a.pin)), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(filepath.Join(dir, retiredFile), authoritiesPEM(t.retired)); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, bundleFile), authoritiesPEM(t.trusted)); err != nil {
		return err
	}
	return t.dropKeys(dir)
}

// dropKeys removes the keys of authorities that are gone or that this node may no longer hold.
func (t *trust) dropKeys(dir string) error {
	keep := map[string]bool{}
	for _, a := range t.trusted {
		if a.key != nil {
			keep[keyFile(a.pin)] = true
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "ca-*.key*")) // also what a crash left half-written
	if err != nil {
		return err
	}
	for _, f := range files {
		if !keep[filepath.Base(f)] {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func readKey(dir string, a *authority) error {
	path := filepath.Join(dir, keyFile(a.pin))
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	const what = "restore it, or move it away: the authority then signs on other nodes only"
	block, _ := pem.Decode(b)
	if block == nil {
		return fmt.Errorf("%s: no PEM block in it; %s", path, what)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w; %s", path, err, what)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok || !a.keyFits(ed) {
		return fmt.Errorf("%s: not the key of authority %s; %s", path, a.pin.Short(), what)
	}
	a.key = ed
	return nil
}

func readAuthorities(path, ring string) ([]authority, error) {
	certs, err := readCertificates(path)
	if err != nil {
		return nil, err
	}
	var out []authority
	for _, c := range certs {
		a, err := parseAuthority(c.Raw, ring)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for len(bytes.TrimSpace(b)) > 0 {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: expected PEM blocks CERTIFICATE; %s", path, mend)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; %s", path, err, mend)
		}
		certs = append(certs, c)
		b = rest
	}
	return certs, nil
}

func authoritiesPEM(list []authority) []byte {
	var b []byte
	for _, a := range list {
		b = append(b, certificatePEM(a.cert.Raw)...)
	}
	return b
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
