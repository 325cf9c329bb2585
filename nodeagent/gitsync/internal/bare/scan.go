package bare

import (
	"compress/zlib"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	githash "github.com/go-git/go-git/v5/plumbing/hash"
)

// entry is one object of a pack.
type entry struct {
	id     Hash // zero until a delta is resolved
	base   Hash // of a refDelta
	off    int64
	size   int64 // inflated bytes: of the object, or of the delta
	baseAt int64 // of an ofsDelta
	crc    uint32
	kind   Kind // as written; of a resolved delta, the object's
	delta  bool
}

// scanner reads a pack once, front to back, writes it to out as it goes, and takes apart what it can.
type scanner struct {
	in     input
	limits Limits
	budget int64 // inflated bytes still allowed
	links  linkSet
	z      io.ReadCloser
	body   []byte // contents of the tree, commit or tag at hand
	chunk  []byte // what was inflated last
}

// scan returns the entries in the order of their offsets, and the pack's checksum. Deltas have no id yet.
func (s *scanner) scan() ([]entry, Hash, error) {
	var head [12]byte
	if _, err := io.ReadFull(&s.in, head[:]); err != nil {
		return nil, Hash{}, fmt.Errorf("pack header: %w", short(err))
	}
	version, count := binary.BigEndian.Uint32(head[4:]), binary.BigEndian.Uint32(head[8:])
	switch {
	case string(head[:4]) != "PACK":
		return nil, Hash{}, fmt.Errorf("pack header: %q is not \"PACK\"", head[:4])
	case version != 2 && version != 3:
		return nil, Hash{}, fmt.Errorf("pack header: version %d is neither 2 nor 3", version)
	case int64(count) > int64(s.limits.Objects):
		return nil, Hash{}, tooBig("the pack", int64(s.limits.Objects), "objects")
	}
	var entries []entry // grows as objects come, not as the header claims
	for i := range count {
		e, err := s.entry()
		if err != nil {
			return nil, Hash{}, fmt.Errorf("pack: object %d of %d at offset %d: %w", i+1, count, e.off, err)
		}
		entries = append(entries, e)
	}
	s.in.settle()
	var sum, trailer Hash
	s.in.sum.Sum(sum[:0])
	if _, err := io.ReadFull(&s.in, trailer[:]); err != nil {
		return nil, Hash{}, fmt.Errorf("pack trailer: %w", short(err))
	}
	if sum != trailer {
		return nil, Hash{}, fmt.Errorf("pack trailer: the checksum is %s, but the pack's bytes give %s", trailer, sum)
	}
	s.in.settle()
	return entries, sum, s.in.err
}

func (s *scanner) entry() (entry, error) {
	s.in.settle()
	s.in.crc = 0
	e := entry{off: s.in.at()}
	if err := readHeader(&s.in, &e); err != nil {
		return e, short(err)
	}
	if e.size > s.limits.Object {
		return e, &LimitError{"it", fmt.Sprintf("is %d bytes long; at most %d", e.size, s.limits.Object)}
	}
	if s.budget -= e.size; s.budget < 0 {
		return e, tooBig("the pack", s.limits.Inflated, "inflated bytes")
	}
	if err := resetZlib(&s.z, &s.in); err != nil {
		return e, short(err)
	}
	var sum hash.Hash
	if !e.delta {
		sum = newHasher(e.kind, e.size)
	}
	keep := e.kind == Tree || e.kind == Commit || e.kind == Tag
	if err := s.inflate(&e, sum, keep); err != nil {
		return e, err
	}
	s.in.settle()
	e.crc = s.in.crc
	if e.delta {
		return e, nil
	}
	sum.Sum(e.id[:0])
	if keep {
		if err := s.links.add(e.id, e.kind, s.body); err != nil {
			return e, fmt.Errorf("%s: %w", e.id, err)
		}
	}
	return e, nil
}

// inflate reads one zlib stream to its end and sums it up.
func (s *scanner) inflate(e *entry, sum hash.Hash, keep bool) error {
	s.body = s.body[:0]
	if s.chunk == nil {
		s.chunk = make([]byte, 32<<10)
	}
	for left := e.size; ; {
		n, err := s.z.Read(s.chunk)
		if left -= int64(n); left < 0 {
			return fmt.Errorf("inflates to more than the %d bytes of its header", e.size)
		}
		if sum != nil {
			sum.Write(s.chunk[:n])
		}
		if keep {
			s.body = append(s.body, s.chunk[:n]...)
		}
		switch {
		case err == io.EOF && left > 0:
			return fmt.Errorf("inflates to less than the %d bytes of its header", e.size)
		case err == io.EOF:
			return nil
		case err != nil:
			return short(err)
		}
	}
}

// readHeader reads what stands before an object's zlib stream.
func readHeader(r io.ByteReader, e *entry) error {
	c, err := r.ReadByte()
	if err != nil {
		return err
	}
	e.kind = Kind(c >> 4 & 7)
	e.size = int64(c & 15)
	for shift := 4; c&0x80 != 0; shift += 7 {
		if c, err = r.ReadByte(); err != nil {
			return err
		}
		if shift > 50 {
			return errors.New("a size of more than 2^57 bytes")
		}
		e.size |= int64(c&0x7f) << shift
	}
	switch e.kind {
	case Commit, Tree, Blob, Tag:
	case ofsDelta:
		e.delta = true
		var back int64
		for i := 0; ; i++ {
			if c, err = r.ReadByte(); err != nil {
				return err
			}
			if i > 7 {
				return errors.New("a delta base further back than 2^56 bytes")
			}
			if i > 0 {
				back++
			}
			back = back<<7 | int64(c&0x7f)
			if c&0x80 == 0 {
				break
			}
		}
		if e.baseAt = e.off - back; back <= 0 || e.baseAt < 12 {
			return fmt.Errorf("a delta base %d bytes back, which is not in the pack", back)
		}
	case refDelta:
		e.delta = true
		for i := range e.base {
			if e.base[i], err = r.ReadByte(); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("object type %d, which Git does not have", e.kind)
	}
	return nil
}

// resetZlib makes *z read a new stream from r, which it never reads past the stream's end.
func resetZlib(z *io.ReadCloser, r io.Reader) (err error) {
	if *z == nil {
		*z, err = zlib.NewReader(r)
		return err
	}
	return (*z).(zlib.Resetter).Reset(r, nil)
}

// short makes the end of a stream within a pack the error that it is.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the pack is cut short")
	}
	return err
}

// input is a buffered reader that writes what was consumed, and no more, to out, and sums it up. It is an
// io.ByteReader, so that inflating takes exactly the bytes of a stream.
type input struct {
	r        io.Reader
	out      io.Writer
	sum      hash.Hash
	crc      uint32
	limit    int64 // bytes of the pack that are allowed
	buf      []byte
	from     int // consumed and settled up to here
	pos, end int
	settled  int64
	err      error // of out
}

func newInput(r io.Reader, out io.Writer, limit int64) input {
	return input{r: r, out: out, sum: githash.New(crypto.SHA1), limit: limit, buf: make([]byte, 64<<10)}
}

func (in *input) at() int64 { return in.settled + int64(in.pos-in.from) }

// settle accounts for what was consumed.
func (in *input) settle() {
	b := in.buf[in.from:in.pos]
	if len(b) == 0 {
		return
	}
	in.sum.Write(b)
	in.crc = crc32.Update(in.crc, crc32.IEEETable, b)
	if _, err := in.out.Write(b); err != nil && in.err == nil {
		in.err = fmt.Errorf("write pack: %w", err)
	}
	in.settled += int64(len(b))
	in.from = in.pos
}

func (in *input) fill() error {
	in.settle()
	if in.err != nil {
		return in.err
	}
	if in.settled >= in.limit {
		return tooBig("the pack", in.limit, "bytes")
	}
	in.from, in.pos, in.end = 0, 0, 0
	for range 100 {
		n, err := in.r.Read(in.buf[:min(int64(len(in.buf)), in.limit-in.settled)])
		if n > 0 {
			in.end = n
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (in *input) ReadByte() (byte, error) {
	if in.pos == in.end {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	in.pos++
	return in.buf[in.pos-1], nil
}

func (in *input) Read(p []byte) (int, error) {
	if in.pos == in.end {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.pos:in.end])
	in.pos += n
	return n, nil
}
