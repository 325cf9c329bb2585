package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/shoal-dev/shoal/engine/desired"
)

// digest hashes parts so that no two lists of parts give the same bytes.
func digest(parts ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// uid names an object made by this entry: a deleted object that comes back gets another one, a moved file does
// not.
func (t *tx) uid(environment string, k desired.Key) string {
	ring, _ := t.s.Ring()
	sum := digest(ring.Ring, decimal(t.s.index), environment, k.Group+"/"+k.Kind, k.Namespace+"/"+k.Name)
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// suffix is n letters and digits for a name, in Kubernetes' alphabet without vowels.
func suffix(sum [sha256.Size]byte, n int) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[int(sum[i])%len(alphabet)]
	}
	return string(b)
}

// childName is a name for a pod of an owner, not taken by another pod: the owner's name, cut to 57 bytes, and
// five letters.
func (t *tx) childName(namespace, owner, uid string) string {
	base := clip(owner, 57)
	for {
		t.made++
		name := base + "-" + suffix(digest(uid, decimal(t.s.index), decimal(uint64(t.made))), 5)
		if !t.s.podNames.has(namespace + "/" + name) {
			return name
		}
		t.spend(1)
	}
}

// templateHash is the pod-template-hash of a new revision, not taken by another revision of its owner.
func templateHash(uid string, template desired.Digest, taken func(string) bool) string {
	for n := uint64(0); ; n++ {
		if h := suffix(digest(uid, string(template), decimal(n)), 10); !taken(h) {
			return h
		}
	}
}
