package bare

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"

	githash "github.com/go-git/go-git/v5/plumbing/hash"
)

// writeIndex writes the version 2 index of a pack whose checksum is sum. It sorts entries by id.
func writeIndex(w io.Writer, entries []entry, sum Hash) error {
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.id[:], b.id[:]) })
	h := githash.New(crypto.SHA1)
	b := bufio.NewWriterSize(io.MultiWriter(w, h), 64<<10)
	put := func(n uint32) { _ = binary.Write(b, binary.BigEndian, n) } // errors stick to b
	_, _ = b.WriteString("\xfftOc\x00\x00\x00\x02")
	var fan [256]uint32
	for i := range entries {
		fan[entries[i].id[0]]++
	}
	total := uint32(0)
	for _, n := range fan {
		total += n
		put(total)
	}
	for i := range entries {
		_, _ = b.Write(entries[i].id[:])
	}
	for i := range entries {
		put(entries[i].crc)
	}
	var far []int64
	for i := range entries {
		if off := entries[i].off; off < 1<<31 {
			put(uint32(off))
		} else {
			put(uint32(len(far)) | 1<<31)
			far = append(far, off)
		}
	}
	for _, off := range far {
		_ = binary.Write(b, binary.BigEndian, off)
	}
	_, _ = b.Write(sum[:])
	if err := b.Flush(); err != nil {
		return err
	}
	_, err := w.Write(h.Sum(nil))
	return err
}

// index finds objects in a pack. It is read from disk as needed: the kernel's page cache holds it better than
// the agent's heap would.
type index struct {
	r     io.ReaderAt
	count int
	fan   [256]uint32
	ids   []byte // all ids, if they are few
	pack  Hash   // the checksum of the pack it belongs to
}

const idxHead = 8 + 256*4

// fewIDs is how many objects a pack has at most for its ids to be held in memory: 160 KiB of them.
const fewIDs = 8192

// idBuffers are for looking at the ids of bigger packs.
var idBuffers = sync.Pool{New: func() any { return new([64 * 20]byte) }}

// openIndex reads the head and the foot of an index of size bytes and checks that they fit each other.
func openIndex(r io.ReaderAt, size int64) (*index, error) {
	head := make([]byte, idxHead)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, errors.New("index: cut short")
	}
	if string(head[:8]) != "\xfftOc\x00\x00\x00\x02" {
		return nil, errors.New("index: not of version 2")
	}
	x := &index{r: r}
	for i := range x.fan {
		x.fan[i] = binary.BigEndian.Uint32(head[8+4*i:])
		if i > 0 && x.fan[i] < x.fan[i-1] {
			return nil, errors.New("index: fan-out falls")
		}
	}
	x.count = int(x.fan[255])
	if least := idxHead + int64(x.count)*28 + 40; size < least || (size-least)%8 != 0 {
		return nil, fmt.Errorf("index: %d bytes cannot list %d objects", size, x.count)
	}
	if _, err := r.ReadAt(x.pack[:], size-40); err != nil {
		return nil, errors.New("index: cut short")
	}
	if x.count <= fewIDs {
		x.ids = make([]byte, x.count*20)
		if _, err := r.ReadAt(x.ids, idxHead); err != nil {
			return nil, errors.New("index: cut short")
		}
	}
	return x, nil
}

// find returns the offset of an object in the pack, or -1.
func (x *index) find(h Hash) (int64, error) {
	n, err := x.search(h)
	if n < 0 || err != nil {
		return -1, err
	}
	return x.offset(n)
}

// search returns which object of the index h is, or -1.
func (x *index) search(h Hash) (int, error) {
	lo, hi := uint32(0), x.fan[h[0]]
	if h[0] > 0 {
		lo = x.fan[h[0]-1]
	}
	if x.ids != nil {
		n := sort.Search(int(hi-lo), func(i int) bool {
			at := (int(lo) + i) * 20
			return bytes.Compare(x.ids[at:at+20], h[:]) >= 0
		}) + int(lo)
		if n < int(hi) && Hash(x.ids[n*20:n*20+20]) == h {
			return n, nil
		}
		return -1, nil
	}
	buf := idBuffers.Get().(*[64 * 20]byte)
	defer idBuffers.Put(buf)
	for hi-lo > 64 { // the last 64 ids are read at once
		mid := lo + (hi-lo)/2
		if err := x.read(buf[:20], idxHead+int64(mid)*20); err != nil {
			return -1, err
		}
		if bytes.Compare(buf[:20], h[:]) <= 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	b := buf[:(hi-lo)*20]
	if err := x.read(b, idxHead+int64(lo)*20); err != nil {
		return -1, err
	}
	for i := 0; i < len(b); i += 20 {
		if Hash(b[i:i+20]) == h {
			return int(lo) + i/20, nil
		}
	}
	return -1, nil
}

// offset is where the nth object of the index stands in the pack.
func (x *index) offset(n int) (int64, error) {
	var b [8]byte
	offsets := idxHead + int64(x.count)*24
	if err := x.read(b[:4], offsets+int64(n)*4); err != nil {
		return -1, err
	}
	off := binary.BigEndian.Uint32(b[:4])
	if off < 1<<31 {
		return int64(off), nil
	}
	if err := x.read(b[:], offsets+int64(x.count)*4+int64(off&^(1<<31))*8); err != nil {
		return -1, err
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}

// id is the nth id of the index.
func (x *index) id(n int) (h Hash, err error) {
	err = x.read(h[:], idxHead+int64(n)*20)
	return h, err
}

// crc is the checksum of the nth object's bytes in the pack, header and all.
func (x *index) crc(n int) (uint32, error) {
	var b [4]byte
	err := x.read(b[:], idxHead+int64(x.count)*20+int64(n)*4)
	return binary.BigEndian.Uint32(b[:]), err
}

func (x *index) read(b []byte, at int64) error {
	if _, err := x.r.ReadAt(b, at); err != nil {
		return fmt.Errorf("index: %w: %w", ErrCorrupt, err)
	}
	return nil
}
