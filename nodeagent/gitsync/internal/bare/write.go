package bare

import (
	"compress/zlib"
	"crypto"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	githash "github.com/go-git/go-git/v5/plumbing/hash"
)

// PackWriter writes a pack of whole objects. It is for readers that want it at once: no deltas are looked for.
type PackWriter struct {
	w   io.Writer
	sum hash.Hash
	z   *zlib.Writer
}

// NewPackWriter writes the header of a pack of count objects to w.
func NewPackWriter(w io.Writer, count int) (*PackWriter, error) {
	sum := githash.New(crypto.SHA1)
	p := &PackWriter{w: io.MultiWriter(w, sum), sum: sum}
	head := []byte("PACK\x00\x00\x00\x02\x00\x00\x00\x00")
	binary.BigEndian.PutUint32(head[8:], uint32(count))
	_, err := p.w.Write(head)
	return p, err
}

// Add writes one object.
func (p *PackWriter) Add(k Kind, raw []byte) (err error) {
	if _, err := p.w.Write(objectHeader(k, len(raw))); err != nil {
		return err
	}
	if p.z == nil {
		if p.z, err = zlib.NewWriterLevel(p.w, zlib.BestSpeed); err != nil {
			return err
		}
	} else {
		p.z.Reset(p.w)
	}
	if _, err := p.z.Write(raw); err != nil {
		return err
	}
	return p.z.Close()
}

// Close writes the checksum.
func (p *PackWriter) Close() error {
	sum := p.sum.Sum(nil)
	if _, err := p.w.Write(sum); err != nil {
		return fmt.Errorf("write pack: %w", err)
	}
	return nil
}

func objectHeader(k Kind, size int) []byte {
	c := byte(k)<<4 | byte(size&15)
	size >>= 4
	var head []byte
	for size > 0 {
		head = append(head, c|0x80)
		c = byte(size & 0x7f)
		size >>= 7
	}
	return append(head, c)
}

// countingWriter knows how far it is and sums up what was written since crc was last set to 0.
type countingWriter struct {
	w   io.Writer
	n   int64
	crc uint32
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.crc = crc32.Update(c.crc, crc32.IEEETable, b[:n])
	return n, err
}
