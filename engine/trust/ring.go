package trust

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ring is every key that is heard of, good or not. A key's ID is a digest of it, so it does not matter where it was read.
type ring struct {
	keys map[string]*Key
	pgp  []*Key // by ID
}

func newRing(all []*Keys) ring {
	r := ring{keys: map[string]*Key{}}
	for _, k := range all {
		for _, key := range k.Keys() {
			if r.keys[key.ID] == nil {
				r.keys[key.ID] = key
				if key.pgp != nil {
					r.pgp = append(r.pgp, key)
				}
			}
		}
	}
	slices.SortFunc(r.pgp, func(a, b *Key) int { return cmp.Compare(a.ID, b.ID) })
	return r
}

// signer returns the key whose signature of payload this is. It does not say whether that key counts.
func (r ring) signer(payload []byte, armored string) (*Key, *Flaw) {
	switch {
	case strings.HasPrefix(armored, kindSSH.begin):
		s, err := parseSSHSignature(armored)
		if err != nil {
			return nil, &Flaw{BadSignature, "its SSH signature: " + err.Error()}
		}
		id := ssh.FingerprintSHA256(s.key)
		key := r.keys[id]
		if key == nil {
			return nil, &Flaw{UnknownKey, "signed by key " + id + ", which is not in keys/"}
		}
		if !s.covers(payload) {
			return nil, &Flaw{BadSignature, fmt.Sprintf("its signature by key %s of %s does not cover its bytes", id, key.Principal)}
		}
		return key, nil
	case strings.HasPrefix(armored, kindPGP.begin):
		sig, err := parsePGPSignature(armored)
		if err != nil {
			return nil, &Flaw{BadSignature, "its OpenPGP signature: " + err.Error()}
		}
		flaw := &Flaw{UnknownKey, "signed by OpenPGP key " + issuer(sig) + ", which is not in keys/"}
		for _, key := range r.pgp {
			if !sig.CheckKeyIdOrFingerprint(key.pgp) {
				continue
			}
			if pgpCovers(key.pgp, sig, payload) {
				return key, nil
			}
			flaw = &Flaw{BadSignature, fmt.Sprintf("its signature by key %s of %s does not cover its bytes", key.ID, key.Principal)}
		}
		return nil, flaw
	}
	return nil, &Flaw{BadSignature, "its signature is neither of SSH nor of OpenPGP"}
}
