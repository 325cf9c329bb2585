package sealed

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a plaintext prints as.
const Redacted = "[secret]"

// Plain is a plaintext. However it is printed, logged or encoded, it says Redacted; Bytes is the one way to it.
type Plain struct{ b []byte }

// NewPlain takes b over.
func NewPlain(b []byte) Plain { return Plain{b} }

// Bytes is the plaintext itself. The caller must not change it.
func (p Plain) Bytes() []byte { return p.b }

// Wipe overwrites the plaintext, as far as nobody has copied it.
func (p Plain) Wipe() { clear(p.b) }

// String is Redacted.
func (Plain) String() string { return Redacted }

// GoString is Redacted.
func (Plain) GoString() string { return Redacted }

// Format prints Redacted for every verb.
func (Plain) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalJSON is Redacted as a JSON string.
func (Plain) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText is Redacted.
func (Plain) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalYAML is Redacted.
func (Plain) MarshalYAML() (any, error) { return Redacted, nil }

// LogValue is Redacted.
func (Plain) LogValue() slog.Value { return slog.StringValue(Redacted) }

// Entry is one key of a Kubernetes Secret with its value.
type Entry struct {
	Key   string
	Plain Plain
}
