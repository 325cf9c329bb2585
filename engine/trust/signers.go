package trust

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// namespace is what Git puts into its SSH signatures, so that a signature made for something else is none of a commit.
const namespace = "git"

// signers reads OpenSSH's allowed_signers format: principal, options if any, type and base64 of the key, comment.
func (k *Keys) signers(file string, data []byte) {
	line := 0
	for raw := range bytes.Lines(data) {
		line++
		text := strings.TrimSpace(strings.TrimSuffix(string(raw), "\n"))
		if text == "" || text[0] == '#' {
			continue
		}
		if len(text) > maxLine {
			k.flaws.add(file, line, "longer than %d bytes", maxLine)
			continue
		}
		key, err := parseSigner(text)
		switch {
		case err != nil:
			k.flaws.add(file, line, "%v", err)
		case key != nil:
			k.put(file, line, key)
		}
	}
}

// parseSigner reads one line. It returns nil without an error for a key that is not for Git.
func parseSigner(line string) (*Key, error) {
	name, rest, err := field(line)
	if err != nil {
		return nil, err
	}
	name = strings.Trim(name, `"`)
	if strings.ContainsAny(name, ",*?!") {
		return nil, fmt.Errorf("%q: one name a line is understood, no lists and no patterns", cut(name))
	}
	if err := CheckPrincipal(name); err != nil {
		return nil, err
	}
	kind, rest, err := field(rest)
	if err != nil {
		return nil, err
	}
	key := &Key{Principal: name}
	git := true
	if !keyTypes[kind] && !strings.HasPrefix(kind, "ssh-") && !strings.Contains(kind, "-cert-") {
		if git, err = key.options(kind); err != nil {
			return nil, err
		}
		if kind, rest, err = field(rest); err != nil {
			return nil, err
		}
	}
	if !keyTypes[kind] {
		return nil, fmt.Errorf("a key of type %q; expected one of ssh-ed25519, ecdsa-sha2-nistp256, -384 or -521, ssh-rsa, sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com", cut(kind))
	}
	text, _, err := field(rest)
	if err != nil {
		return nil, err
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, errors.New("the key is not base64")
	}
	key.ssh, err = parseSSHKey(blob)
	if err != nil {
		return nil, err
	}
	if key.ssh.Type() != kind {
		return nil, fmt.Errorf("the line says %s, the key itself %s", kind, key.ssh.Type())
	}
	key.ID = ssh.FingerprintSHA256(key.ssh)
	if !git {
		return nil, nil
	}
	return key, nil
}

// field cuts the first word off, in which a quoted part may hold spaces.
func field(s string) (word, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ' ' || s[i] == '\t'):
			return s[:i], s[i:], nil
		case s[i] < 0x20 && s[i] != '\t':
			return "", "", errors.New("holds a control character")
		}
	}
	switch {
	case quoted:
		return "", "", errors.New("a quote has no end")
	case s == "":
		return "", "", errors.New("is cut short; expected: name, options if any, type, key")
	}
	return s, "", nil
}

var keyTypes = map[string]bool{
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true,
	ssh.KeyAlgoRSA: true, ssh.KeyAlgoSKED25519: true, ssh.KeyAlgoSKECDSA256: true,
}

// options reads namespaces=, valid-after= and valid-before=. It says whether the key is for Git.
func (key *Key) options(list string) (git bool, err error) {
	git = true
	seen := map[string]bool{}
	for _, option := range splitQuoted(list) {
		name, value, has := strings.Cut(option, "=")
		name = strings.ToLower(name)
		if seen[name] {
			return false, fmt.Errorf("option %s stands twice", cut(name))
		}
		seen[name] = true
		if has {
			if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' || strings.ContainsRune(value[1:len(value)-1], '"') {
				return false, fmt.Errorf("option %s: expected a value in double quotes", cut(name))
			}
			value = value[1 : len(value)-1]
		}
		switch {
		case name == "cert-authority":
			return false, errors.New("cert-authority: certificates are not supported, list the keys themselves")
		case name == "namespaces" && has:
			if strings.ContainsAny(value, "*?!") {
				return false, fmt.Errorf("namespaces: %q holds a pattern; expected names like git", cut(value))
			}
			git = false
			for n := range strings.SplitSeq(value, ",") {
				git = git || n == namespace
			}
		case name == "valid-after" && has:
			if key.From, err = parseStamp(value); err != nil {
				return false, fmt.Errorf("valid-after: %w", err)
			}
		case name == "valid-before" && has:
			if key.Until, err = parseStamp(value); err != nil {
				return false, fmt.Errorf("valid-before: %w", err)
			}
		default:
			return false, fmt.Errorf("option %q is not understood; expected namespaces=, valid-after= or valid-before=", cut(name))
		}
	}
	if !key.Until.IsZero() && key.Until.Before(key.From) {
		return false, errors.New("valid-before lies before valid-after")
	}
	return git, nil
}

func splitQuoted(s string) []string {
	var out []string
	quoted, from := false, 0
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			out = append(out, s[from:i])
			from = i + 1
		}
	}
	return append(out, s[from:])
}

// parseStamp reads OpenSSH's time with its Z. Without it ssh-keygen takes the zone of the machine it runs on.
func parseStamp(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(s, "Z")
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	if layout != "" && !utc {
		return time.Time{}, fmt.Errorf("%q: add a Z: without it the time depends on a machine's time zone", s)
	}
	t, err := time.Parse(layout, digits)
	if layout == "" || err != nil {
		return time.Time{}, fmt.Errorf("%q: expected YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ", cut(s))
	}
	return t, nil
}

// parseSSHKey reads a key in the wire format. It refuses weak keys, certificates and a second way to write a key.
func parseSSHKey(blob []byte) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read: %s", cut(strings.TrimPrefix(err.Error(), "ssh: ")))
	}
	if !keyTypes[key.Type()] {
		return nil, fmt.Errorf("a key of type %s is not accepted", cut(key.Type()))
	}
	if !bytes.Equal(key.Marshal(), blob) {
		return nil, errors.New("the key is written in an odd way")
	}
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && (r.N.BitLen() < minRSABits || r.N.BitLen() > maxRSABits) {
			return nil, fmt.Errorf("an RSA key of %d bits; expected %d to %d", r.N.BitLen(), minRSABits, maxRSABits)
		}
	}
	return key, nil
}

// SignersLine is the line of keys/signers for key, with its line end; it is for Git alone. The ring's own key is listed by it too.
func SignersLine(principal string, key ssh.PublicKey) (string, error) {
	if err := CheckPrincipal(principal); err != nil {
		return "", err
	}
	if _, err := parseSSHKey(key.Marshal()); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s namespaces=%q %s", principal, namespace, ssh.MarshalAuthorizedKey(key)), nil
}
