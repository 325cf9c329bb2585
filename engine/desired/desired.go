package desired

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
)

// Digest is a sha256 in lower-case hex (64 digits), the name of some bytes in the content store. "" is none.
type Digest string

// DigestOf names b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(hex.EncodeToString(sum[:]))
}

// Key names an object within the ring.
type Key struct {
	Group     string `json:"group,omitempty"` // "" is core
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"` // "" for cluster-scoped kinds
	Name      string `json:"name"`
}

// Compare orders keys by namespace, group, kind and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Group, o.Group), cmp.Compare(k.Kind, o.Kind), cmp.Compare(k.Name, o.Name))
}

// String is "Deployment default/web", or "Namespace web" for a cluster-scoped kind.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Entry is one object in a manifest.
type Entry struct {
	Key    Key    `json:"key"`
	Digest Digest `json:"digest"` // of the object's canonical JSON, defaulted
	App    string `json:"app"`
	// Template is the digest of the pod template as its author wrote it, before defaulting, so that a newer
	// library's defaults restart nothing; "" for kinds that have none.
	Template Digest `json:"template,omitempty"`
}

// Set is one environment at one commit: a sorted list of entries whose bytes lie in a content store. The
// manifest's own bytes (Encode) are in the store under D. Immutable.
type Set struct {
	Environment string
	Entries     []Entry // sorted by Key
	D           Digest
}

// Content reads the bytes of a digest. Equal digests always give equal bytes, so it is a function, not an effect.
type Content interface {
	Get(Digest) ([]byte, error)
}
