package sealed

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"filippo.io/age"
)

// Value is one sealed value.
type Value struct {
	Key string
	// MAC is 32 hex digits, or "" if who sealed it had no identity.
	MAC string
	// Age is the ciphertext, binary.
	Age []byte
}

// Version changes when the value does, and only then if there is a MAC.
func (v Value) Version() string {
	if v.MAC != "" {
		return "mac:" + v.MAC
	}
	d := sha256.Sum256(v.Age)
	return "age:" + hex.EncodeToString(d[:16])
}

// Seal seals plain for its place.
func (id *Identity) Seal(at Place, plain Plain) (Value, error) {
	if at.Environment != id.environment {
		return Value{}, fmt.Errorf("seal %s: the identity is that of %s", at, id.environment)
	}
	v, err := SealFor(id.Recipient(), at, plain)
	v.MAC = id.macOf(at, plain)
	return v, err
}

// SealFor seals without the identity, and so without a MAC.
func SealFor(recipient string, at Place, plain Plain) (Value, error) {
	if err := at.Check(); err != nil {
		return Value{}, fmt.Errorf("seal %s: %w", at, err)
	}
	if n := len(plain.b); n > MaxValue {
		return Value{}, fmt.Errorf("seal %s: %d bytes; at most %d", at, n, MaxValue)
	}
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return Value{}, fmt.Errorf("seal %s: no age recipient", at)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		return Value{}, fmt.Errorf("seal %s: %w", at, err)
	}
	inside := enclose(at, plain.b)
	defer clear(inside)
	if _, err := w.Write(inside); err != nil {
		return Value{}, fmt.Errorf("seal %s: %w", at, err)
	}
	if err := w.Close(); err != nil {
		return Value{}, fmt.Errorf("seal %s: %w", at, err)
	}
	return Value{Key: at.Key, Age: out.Bytes()}, nil
}

// Open opens a value that belongs to at. It refuses what was sealed for another place, and a MAC that is not its own.
func (id *Identity) Open(at Place, v Value) (Plain, error) {
	bad := func(what string) (Plain, error) { return Plain{}, fmt.Errorf("open %s: the value %s", at, what) }
	switch {
	case at.Environment != id.environment:
		return Plain{}, fmt.Errorf("open %s: the identity is that of %s", at, id.environment)
	case v.Key != at.Key:
		return bad("belongs to another key")
	case len(v.Age) > maxSealed:
		return bad("is too long")
	}
	r, err := age.Decrypt(bytes.NewReader(v.Age), id.age)
	if err != nil {
		return bad(ageError(err))
	}
	inside, err := io.ReadAll(io.LimitReader(r, maxSealed))
	if err != nil {
		return bad("is damaged")
	}
	b, from, err := disclose(inside)
	switch {
	case err != nil:
		return bad(err.Error())
	case from != at:
		return bad("was sealed for another place, " + strconv.Quote(short(from.String())))
	}
	plain := NewPlain(b)
	if v.MAC != "" && subtle.ConstantTimeCompare([]byte(v.MAC), []byte(id.macOf(at, plain))) != 1 {
		plain.Wipe()
		return bad("has a MAC that is not its own")
	}
	return plain, nil
}

func (id *Identity) macOf(at Place, plain Plain) string {
	h := hmac.New(sha256.New, id.mac)
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00", at.Environment, at.Name, at.Key) // no name holds a NUL
	h.Write(plain.b)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

const (
	insideHead = "shoal secret 1\n"
	block      = 64
	// maxSealed bounds a ciphertext: the value, its place, padding, age's header and 16 bytes for each chunk of 64 KiB.
	maxSealed = MaxValue + 4<<10
)

// enclose is what is encrypted: the place, the length, the value, and zeros up to a multiple of block.
func enclose(at Place, value []byte) []byte {
	head := fmt.Sprintf("%s%s\n%s\n%s\n%d\n", insideHead, at.Environment, at.Name, at.Key, len(value))
	size := (len(head) + len(value) + block - 1) / block * block
	out := append(make([]byte, 0, size), head...)
	return append(out, value...)[:size]
}

// disclose undoes enclose; value is a part of inside.
func disclose(inside []byte) (value []byte, at Place, err error) {
	bad := errors.New("was not sealed by shoal")
	rest, ok := bytes.CutPrefix(inside, []byte(insideHead))
	if !ok {
		return nil, at, bad
	}
	var lines [4]string
	for i := range lines {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok || len(line) > maxKey {
			return nil, at, bad
		}
		lines[i], rest = string(line), after
	}
	at = Place{Environment: lines[0], Name: lines[1], Key: lines[2]}
	n, err := strconv.Atoi(lines[3])
	if err != nil || n < 0 || n > MaxValue || n > len(rest) || at.Check() != nil {
		return nil, Place{}, bad
	}
	if !bytes.Equal(enclose(at, rest[:n]), inside) {
		return nil, Place{}, bad
	}
	return rest[:n:n], at, nil
}
