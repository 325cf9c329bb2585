package bare

import "errors"

var errDelta = errors.New("a delta that does not fit its base")

// deltaSizes reads the two sizes at the head of a delta: of its base and of its result.
func deltaSizes(delta []byte) (base, result int64, rest []byte, err error) {
	if base, rest, err = varint(delta); err == nil {
		result, rest, err = varint(rest)
	}
	return base, result, rest, err
}

// varint reads a little-endian number of 7 bits a byte, up to 2^62.
func varint(b []byte) (n int64, rest []byte, err error) {
	for i := 0; i < len(b) && i < 9; i++ {
		n |= int64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			if n < 0 || n > 1<<62 {
				break
			}
			return n, b[i+1:], nil
		}
	}
	return 0, nil, errDelta
}

// applyDelta makes the object that delta describes from base. The result is at most limit bytes long.
func applyDelta(base, delta []byte, limit int64) ([]byte, error) {
	from, to, ops, err := deltaSizes(delta)
	if err != nil {
		return nil, err
	}
	if from != int64(len(base)) {
		return nil, errDelta
	}
	if to > limit {
		return nil, tooBig("the result of a delta", limit, "bytes")
	}
	out := make([]byte, 0, to)
	for len(ops) > 0 {
		op := ops[0]
		ops = ops[1:]
		switch {
		case op&0x80 != 0: // copy from the base
			var offset, size int64
			for i := range 4 {
				if op&(1<<i) != 0 {
					if len(ops) == 0 {
						return nil, errDelta
					}
					offset |= int64(ops[0]) << (8 * i)
					ops = ops[1:]
				}
			}
			for i := range 3 {
				if op&(0x10<<i) != 0 {
					if len(ops) == 0 {
						return nil, errDelta
					}
					size |= int64(ops[0]) << (8 * i)
					ops = ops[1:]
				}
			}
			if size == 0 {
				size = 0x10000
			}
			if offset+size > int64(len(base)) || int64(len(out))+size > to {
				return nil, errDelta
			}
			out = append(out, base[offset:offset+size]...)
		case op != 0: // the next op bytes themselves
			n := int(op)
			if n > len(ops) || int64(len(out)+n) > to {
				return nil, errDelta
			}
			out = append(out, ops[:n]...)
			ops = ops[n:]
		default:
			return nil, errDelta
		}
	}
	if int64(len(out)) != to {
		return nil, errDelta
	}
	return out, nil
}
