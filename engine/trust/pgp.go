package trust

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// The library parses OpenPGP and does its arithmetic. What a key is good for is decided here, since the library
// reads the clock, breaks ties by the order of a map, and allocates what a length of version 6 claims.

const maxEntities = 16 // in one .asc

// openPGP reads an .asc file: the public keys of one principal, of version 4.
func (k *Keys) openPGP(file, principal string, data []byte) {
	text := strings.TrimSpace(strings.ReplaceAll(string(data), "\r\n", "\n")) + "\n"
	if strings.Contains(text, "PRIVATE KEY") {
		k.flaws.add(file, 0, "holds a private key: take it out of the repository, and never use it again")
		return
	}
	raw, err := dearmor(text, kindKey)
	if err == nil {
		err = checkPackets(raw)
	}
	if err != nil {
		k.flaws.add(file, 0, "%v", err)
		return
	}
	entities, err := readEntities(raw)
	if err != nil {
		k.flaws.add(file, 0, "%v", err)
		return
	}
	for _, e := range entities {
		keys, err := signingKeys(e)
		if err != nil {
			k.flaws.add(file, 0, "key %X: %v", e.PrimaryKey.Fingerprint, err)
			continue
		}
		for _, key := range keys {
			key.Principal = principal
			k.put(file, 0, key)
		}
	}
}

func readEntities(raw []byte) (entities []*openpgp.Entity, err error) {
	defer func() {
		if recover() != nil { // the library has panicked on odd keys before
			entities, err = nil, errors.New("is a key that cannot be read")
		}
	}()
	r := packet.NewReader(bytes.NewReader(raw))
	for {
		e, err := openpgp.ReadEntity(r)
		switch {
		case errors.Is(err, io.EOF):
			return entities, nil
		case err != nil:
			return nil, fmt.Errorf("a key that cannot be read: %s", cut(err.Error()))
		case len(entities) == maxEntities:
			return nil, fmt.Errorf("more than %d keys", maxEntities)
		}
		entities = append(entities, e)
	}
}

// signingKeys lists the primary key and subkeys that may sign.
func signingKeys(e *openpgp.Entity) ([]*Key, error) {
	self, err := selfSignature(e)
	if err != nil {
		return nil, err
	}
	from, until := span(e.PrimaryKey, self)
	revoked := ""
	if len(e.Revocations) > 0 {
		revoked = "its owner says so in the key"
	}
	var keys []*Key
	if self.FlagSign || !self.FlagsValid {
		if err := checkPGPKey(e.PrimaryKey); err != nil {
			return nil, err
		}
		keys = append(keys, &Key{ID: fingerprint(e.PrimaryKey), From: from, Until: until, Revoked: revoked, pgp: e.PrimaryKey})
	}
	for _, sub := range e.Subkeys {
		if !sub.Sig.FlagsValid || !sub.Sig.FlagSign || sub.Sig.EmbeddedSignature == nil || checkPGPKey(sub.PublicKey) != nil {
			continue
		}
		if err := critical(sub.Sig); err != nil {
			return nil, err
		}
		key := &Key{ID: fingerprint(sub.PublicKey), Revoked: revoked, pgp: sub.PublicKey}
		key.From, key.Until = span(sub.PublicKey, sub.Sig)
		key.Until = earlier(key.Until, until)
		if key.Until = earlier(key.Until, signatureEnd(sub.Sig.EmbeddedSignature)); len(sub.Revocations) > 0 {
			key.Revoked = "its owner says so in the subkey"
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("has no part that may sign")
	}
	return keys, nil
}

// selfSignature is the newest self-signature of a user id that was not revoked; of several of one second, that of the name that sorts last.
func selfSignature(e *openpgp.Entity) (*packet.Signature, error) {
	var newest *packet.Signature
	for _, name := range slices.Sorted(maps.Keys(e.Identities)) {
		id := e.Identities[name]
		if len(id.Revocations) > 0 || id.SelfSignature == nil {
			continue
		}
		if newest == nil || !id.SelfSignature.CreationTime.Before(newest.CreationTime) {
			newest = id.SelfSignature
		}
	}
	if newest == nil {
		return nil, errors.New("has no user id that is not revoked")
	}
	return newest, critical(newest)
}

// span is when a key is good by its self-signature or binding: until the earlier end of the two.
func span(key *packet.PublicKey, sig *packet.Signature) (from, until time.Time) {
	if s := sig.KeyLifetimeSecs; s != nil && *s != 0 {
		until = key.CreationTime.Add(time.Duration(*s) * time.Second).UTC()
	}
	return key.CreationTime.UTC(), earlier(until, signatureEnd(sig))
}

func signatureEnd(sig *packet.Signature) time.Time {
	if s := sig.SigLifetimeSecs; s != nil && *s != 0 {
		return sig.CreationTime.Add(time.Duration(*s) * time.Second).UTC()
	}
	return time.Time{}
}

// earlier is the earlier of two ends, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func critical(sig *packet.Signature) error {
	for _, n := range sig.Notations {
		if n.IsCritical {
			return fmt.Errorf("holds a critical notation %q, which is not understood", cut(n.Name))
		}
	}
	return nil
}

func checkPGPKey(key *packet.PublicKey) error {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519, packet.PubKeyAlgoEd448:
		return nil
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		if bits, err := key.BitLength(); err != nil || bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits; expected %d to %d", bits, minRSABits, maxRSABits)
		}
		return nil
	}
	return fmt.Errorf("algorithm %d is not accepted for signatures", key.PubKeyAlgo)
}

func fingerprint(key *packet.PublicKey) string { return fmt.Sprintf("%X", key.Fingerprint) }

// parsePGPSignature reads an armored signature: one packet of version 4, of binary data, by a hash that is not broken.
func parsePGPSignature(armored string) (sig *packet.Signature, err error) {
	defer func() {
		if recover() != nil {
			sig, err = nil, errors.New("cannot be read")
		}
	}()
	raw, err := dearmor(armored, kindPGP)
	if err != nil {
		return nil, err
	}
	tag, body, rest, err := nextPacket(raw)
	switch {
	case err != nil:
		return nil, err
	case tag != tagSignature || len(rest) > 0:
		return nil, errors.New("expected one signature and nothing else")
	}
	if err := checkSignature(body, false); err != nil {
		return nil, err
	}
	p, err := packet.Read(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %s", cut(err.Error()))
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, errors.New("is no signature")
	}
	switch {
	case sig.SigType != packet.SigTypeBinary:
		return nil, fmt.Errorf("is of type %#x; expected one of binary data", uint8(sig.SigType))
	case !slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}, sig.Hash):
		return nil, errors.New("uses a hash that is not accepted; expected SHA-256, SHA-384, SHA-512 or SHA-3")
	}
	return sig, critical(sig)
}

// pgpCovers says whether sig is a signature of payload by key.
func pgpCovers(key *packet.PublicKey, sig *packet.Signature, payload []byte) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	h, err := sig.PrepareVerify()
	if err != nil {
		return false
	}
	h.Write(payload)
	return key.VerifySignature(h, sig) == nil
}

// issuer is what a signature says of its key.
func issuer(sig *packet.Signature) string {
	switch {
	case len(sig.IssuerFingerprint) > 0:
		return fmt.Sprintf("%X", sig.IssuerFingerprint)
	case sig.IssuerKeyId != nil:
		return fmt.Sprintf("%016X", *sig.IssuerKeyId)
	}
	return "without a name"
}
