package firewall

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables/expr"
)

// The words rules are made of.

// words are a part of a rule.
type words []expr.Any

// all is the rule that its parts make together.
func all(parts ...words) rule { return rule{exprs: slices.Concat(parts...)} }

func meta(key expr.MetaKey, register uint32) expr.Any {
	return &expr.Meta{Key: key, Register: register}
}

func saddr(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}

func daddr(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
}

func sport(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}
}

func dport(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// serviceKey is destination address . protocol . destination port.
func serviceKey() words {
	return words{daddr(key0), meta(expr.MetaKeyL4PROTO, key1), dport(key2)}
}

// nodeKey is protocol . destination port.
func nodeKey() words {
	return words{meta(expr.MetaKeyL4PROTO, key0), dport(key1)}
}

// goVia follows the verdict that the map has for the key.
func goVia(m *set) words {
	return words{&expr.Lookup{SourceRegister: key0, DestRegister: 0, IsDestRegSet: true, SetName: m.name}}
}

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

func drop() expr.Any { return &expr.Verdict{Kind: expr.VerdictDrop} }

func equal(register uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func differs(register uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: data}
}

// inside tells whether an address lies in p; outside that it does not.
func inside(address func(uint32) expr.Any, p netip.Prefix) words {
	return compare(address, p, equal)
}

func outside(address func(uint32) expr.Any, p netip.Prefix) words {
	return compare(address, p, differs)
}

func compare(address func(uint32) expr.Any, p netip.Prefix, op func(uint32, []byte) expr.Any) words {
	network := p.Masked().Addr().AsSlice()
	if p.Bits() == p.Addr().BitLen() {
		return words{address(key0), op(key0, network)}
	}
	return words{
		address(key0),
		&expr.Bitwise{SourceRegister: key0, DestRegister: key0, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		op(key0, network),
	}
}

// anyBit tells whether a bit is set in a register of the machine's byte order.
func anyBit(register, bit uint32) words {
	return words{
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: native(bit), Xor: make([]byte, 4)},
		differs(register, make([]byte, 4)),
	}
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func bigEndian16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func secondsOf(n int32) time.Duration { return time.Duration(n) * time.Second }

func bigEndian32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
