package daemon

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestInflateIsBounded(t *testing.T) {
	pack := map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser { z, _ := zstd.NewWriter(w); return z },
	}
	data := make([]byte, 1<<20) // half of it is zeros
	rand.NewChaCha8([32]byte{}).Read(data[:len(data)/2])
	for kind, packer := range pack {
		for name, c := range map[string]struct {
			chunk   []byte
			chunks  int
			refused bool
		}{
			"a bomb":       {make([]byte, 1<<20), 16, true},
			"a small bomb": {make([]byte, 1<<20), 3, false}, // within what any layer may be
			"data":         {data, 8, false},
		} {
			var b bytes.Buffer
			w := packer(&b)
			for range c.chunks {
				if _, err := w.Write(c.chunk); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			packed := b.Len()
			in, err := inflate(&b, 4<<20)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, in)
			in.Close()
			if (err != nil) != c.refused {
				t.Errorf("%s, %s: %d of %d bytes, packed %d: %v", kind, name, n, c.chunks*len(c.chunk), packed, err)
			}
			if c.refused && n > 4<<20+inflatedTimes*int64(packed)+1<<20 {
				t.Errorf("%s, %s: %d bytes came of %d", kind, name, n, packed)
			}
		}
	}
}
