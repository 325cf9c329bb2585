package trust

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

const sshMagic = "SSHSIG"

// sshBlob is a signature as OpenSSH's PROTOCOL.sshsig has it, after the magic.
type sshBlob struct {
	Version   uint32
	Key       []byte
	Namespace string
	Reserved  string
	Hash      string
	Signature []byte
}

// sshSigned is what the key signed, after the magic.
type sshSigned struct {
	Namespace string
	Reserved  string
	Hash      string
	Digest    []byte
}

// sshSignature is a signature that was read and not yet verified.
type sshSignature struct {
	key  ssh.PublicKey
	hash string
	sig  ssh.Signature
}

func parseSSHSignature(armored string) (sshSignature, error) {
	var s sshSignature
	raw, err := dearmor(armored, kindSSH)
	if err != nil {
		return s, err
	}
	rest, ok := strings.CutPrefix(string(raw), sshMagic)
	if !ok {
		return s, errors.New("is not made by ssh-keygen -Y sign")
	}
	var b sshBlob
	if err := ssh.Unmarshal([]byte(rest), &b); err != nil {
		return s, errors.New("is cut short or goes on after its end")
	}
	switch {
	case b.Version != 1:
		return s, fmt.Errorf("has version %d; expected 1", b.Version)
	case b.Namespace != namespace:
		return s, fmt.Errorf("was made for %q; expected %q", cut(b.Namespace), namespace)
	case b.Reserved != "":
		return s, errors.New("uses a field that is reserved")
	case b.Hash != "sha256" && b.Hash != "sha512":
		return s, fmt.Errorf("uses the hash %q; expected sha256 or sha512", cut(b.Hash))
	}
	if s.key, err = parseSSHKey(b.Key); err != nil {
		return s, err
	}
	s.hash = b.Hash
	if err := ssh.Unmarshal(b.Signature, &s.sig); err != nil {
		return s, errors.New("its inner part is cut short")
	}
	hardware := strings.HasPrefix(s.key.Type(), "sk-")
	switch {
	case !hardware && len(s.sig.Rest) > 0:
		return s, errors.New("its inner part goes on after its end")
	case s.key.Type() == ssh.KeyAlgoRSA && s.sig.Format != ssh.KeyAlgoRSASHA256 && s.sig.Format != ssh.KeyAlgoRSASHA512:
		return s, fmt.Errorf("is of type %q; expected rsa-sha2-256 or rsa-sha2-512", cut(s.sig.Format))
	case s.key.Type() != ssh.KeyAlgoRSA && s.sig.Format != s.key.Type():
		return s, fmt.Errorf("is of type %q for a key of type %s", cut(s.sig.Format), s.key.Type())
	}
	return s, nil
}

// covers says whether the signature is one of payload, by the key it names.
func (s sshSignature) covers(payload []byte) bool {
	return s.key.Verify(sshMessage(s.hash, payload), &s.sig) == nil
}

func sshMessage(hash string, payload []byte) []byte {
	m := sshSigned{Namespace: namespace, Hash: hash}
	if hash == "sha256" {
		d := sha256.Sum256(payload)
		m.Digest = d[:]
	} else {
		d := sha512.Sum512(payload)
		m.Digest = d[:]
	}
	return append([]byte(sshMagic), ssh.Marshal(m)...)
}

// Sign returns the armored signature of payload by an Ed25519 key, as `ssh-keygen -Y sign -n git` makes it.
func Sign(payload []byte, key ssh.Signer) (string, error) {
	if t := key.PublicKey().Type(); t != ssh.KeyAlgoED25519 {
		return "", fmt.Errorf("sign: a key of type %s; expected %s", t, ssh.KeyAlgoED25519)
	}
	sig, err := key.Sign(nil, sshMessage("sha512", payload)) // Ed25519 needs no random numbers
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	blob := sshMagic + string(ssh.Marshal(sshBlob{
		Version: 1, Key: key.PublicKey().Marshal(), Namespace: namespace, Hash: "sha512", Signature: ssh.Marshal(sig),
	}))
	text := base64.StdEncoding.EncodeToString([]byte(blob))
	var b strings.Builder
	b.WriteString(kindSSH.begin + "\n")
	for len(text) > 0 {
		n := min(70, len(text))
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString(kindSSH.end + "\n")
	return b.String(), nil
}
