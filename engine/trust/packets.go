package trust

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Tags of OpenPGP packets that may stand in a public key.
const (
	tagSignature = 2
	tagPublicKey = 6
	tagTrust     = 12
	tagUserID    = 13
	tagSubkey    = 14
)

// checkPackets looks over the packets of public keys before the library does: all of version 4, with definite lengths.
func checkPackets(raw []byte) error {
	for n := 0; len(raw) > 0; n++ {
		if n > 4096 {
			return errors.New("more than 4096 packets")
		}
		tag, body, rest, err := nextPacket(raw)
		if err != nil {
			return err
		}
		raw = rest
		switch tag {
		case tagSignature:
			if err := checkSignature(body, true); err != nil {
				return err
			}
		case tagPublicKey, tagSubkey:
			if len(body) == 0 || body[0] != 4 {
				return errors.New("an OpenPGP key that is not of version 4")
			}
		case tagUserID, tagTrust:
		case 17:
			return errors.New("holds a picture; export it with --export-options no-export-attributes")
		default:
			return fmt.Errorf("holds an OpenPGP packet %d, which is no part of a public key", tag)
		}
	}
	return nil
}

var errPacket = errors.New("an OpenPGP packet is cut short")

// nextPacket takes the first packet off. Lengths must be definite.
func nextPacket(raw []byte) (tag int, body, rest []byte, err error) {
	if len(raw) < 2 || raw[0]&0x80 == 0 {
		return 0, nil, nil, errPacket
	}
	head, length := 0, uint64(0)
	if raw[0]&0x40 != 0 { // the new format
		tag = int(raw[0] & 0x3f)
		head, length = newLength(raw[1:])
		head++
	} else {
		tag = int(raw[0] >> 2 & 0x0f)
		size := []int{1, 2, 4, 0}[raw[0]&3]
		if size == 0 || len(raw) < 1+size {
			return 0, nil, nil, errPacket
		}
		for _, b := range raw[1 : 1+size] {
			length = length<<8 | uint64(b)
		}
		head = 1 + size
	}
	if head < 2 || uint64(len(raw)-head) < length {
		return 0, nil, nil, errPacket
	}
	end := head + int(length)
	return tag, raw[head:end], raw[end:], nil
}

// newLength reads a length of one, two or five bytes. size is 0 if it is cut short or not definite.
func newLength(raw []byte) (size int, length uint64) {
	switch {
	case len(raw) >= 1 && raw[0] < 192:
		return 1, uint64(raw[0])
	case len(raw) >= 2 && raw[0] >= 192 && raw[0] < 224:
		return 2, uint64(raw[0]-192)<<8 + uint64(raw[1]) + 192
	case len(raw) >= 5 && raw[0] == 255:
		return 5, uint64(binary.BigEndian.Uint32(raw[1:5]))
	}
	return 0, 0
}

// checkSignature holds a signature to version 4. The binding of a subkey may hold one more, which holds none.
func checkSignature(body []byte, binding bool) error {
	if len(body) < 6 || body[0] != 4 {
		return errors.New("an OpenPGP signature that is not of version 4")
	}
	rest := body[4:]
	for range 2 { // what is hashed, what is not
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return errPacket
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		area := rest[2:end]
		rest = rest[end:]
		for len(area) > 0 {
			size, length, long := 0, uint64(0), area[0] >= 224 && area[0] < 255
			if long { // in subpackets these are lengths of two bytes too
				if len(area) < 2 {
					return errPacket
				}
				size, length = 2, uint64(area[0]-192)<<8+uint64(area[1])+192
			} else {
				size, length = newLength(area)
			}
			if size == 0 || length == 0 || uint64(len(area)-size) < length {
				return errPacket
			}
			sub := area[size : size+int(length)]
			area = area[size+int(length):]
			if sub[0]&0x7f != 32 {
				continue
			}
			if !binding {
				return errors.New("an OpenPGP signature within a signature")
			}
			if err := checkSignature(sub[1:], false); err != nil {
				return err
			}
		}
	}
	return nil
}
