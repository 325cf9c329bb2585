package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernel is our table as nftables has it. Its methods are for one goroutine at a time.
type kernel struct {
	instance string
	conn     *nftables.Conn
	raw      *netlink.Conn // for what the library does not have: the generation
}

// buffers of the sockets, in bytes: a first load of 65,536 elements is some 5 MiB in one message.
const (
	sendBuffer    = 16 << 20
	receiveBuffer = 8 << 20
)

func openKernel(instance string) (*kernel, error) {
	buffers := func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(sendBuffer), c.SetReadBuffer(receiveBuffer))
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(buffers))
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	raw, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		_ = conn.CloseLasting()
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	return &kernel{instance: instance, conn: conn, raw: raw}, nil
}

func (k *kernel) close() {
	_ = k.conn.CloseLasting()
	_ = k.raw.Close()
}

func tableName(instance string) string { return "shoal-" + instance }

func (k *kernel) table() *nftables.Table {
	return &nftables.Table{Name: tableName(k.instance), Family: nftables.TableFamilyIPv4}
}

// generation counts the transactions on the ruleset of this network namespace, whoever made them. Elements that
// the packet path adds, and those that expire, do not count.
func (k *kernel) generation() (uint32, error) {
	reply, err := k.raw.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("read generation of the ruleset: %w", err)
	}
	for _, m := range reply {
		if len(m.Data) < 4 {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read generation of the ruleset: %w", err)
		}
		attrs.ByteOrder = binary.BigEndian
		for attrs.Next() {
			if attrs.Type() == unix.NFTA_GEN_ID {
				return attrs.Uint32(), nil
			}
		}
	}
	return 0, errors.New("read generation of the ruleset: the kernel named none")
}

// read returns the whole of our table as it is, or nil if there is none.
func (k *kernel) read() (*image, error) {
	t := k.table()
	if _, err := k.conn.ListTableOfFamily(t.Name, t.Family); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read table %s: %w", t.Name, err)
	}
	img := &image{chains: make(map[string]imageChain), sets: make(map[string]string)}
	if err := k.readChains(t, img); err != nil {
		return nil, err
	}
	return img, k.readSets(t, img)
}

func (k *kernel) readChains(t *nftables.Table, img *image) error {
	chains, err := k.conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name != t.Name {
			continue
		}
		var ic imageChain
		if c.Hooknum != nil && c.Priority != nil {
			ic.base = baseText(string(c.Type), uint32(*c.Hooknum), int32(*c.Priority), c.Policy == nil || *c.Policy == nftables.ChainPolicyAccept)
		}
		rules, err := k.conn.GetRules(t, c)
		if err != nil {
			return fmt.Errorf("read rules of chain %s: %w", c.Name, err)
		}
		for _, r := range rules {
			ic.rules = append(ic.rules, rule(r.Exprs).bytes())
		}
		img.chains[c.Name] = ic
	}
	return nil
}

func (k *kernel) readSets(t *nftables.Table, img *image) error {
	found, err := k.conn.GetSets(t)
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	for _, f := range found {
		img.sets[f.Name] = "something else"
		for i, s := range sets {
			if s.name != f.Name {
				continue
			}
			if s.same(f) {
				img.sets[f.Name] = s.definition()
			}
			if s.dynamic {
				continue
			}
			if img.elements[i], err = k.readElements(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// readElements returns the elements of one set.
func (k *kernel) readElements(s *set) (map[string]string, error) {
	found, err := k.conn.GetSetElements(k.set(s))
	if err != nil {
		return nil, fmt.Errorf("read elements of %s: %w", s.name, err)
	}
	elements := make(map[string]string, len(found))
	for _, e := range found {
		v := string(e.Val)
		if s.verdicts {
			v = verdictText(e.Val)
		}
		elements[string(e.Key)] = v
	}
	return elements, nil
}

// same tells whether a set in the kernel is what s says. The library reads a verdict map's type into KeyType, so
// lengths are compared where types cannot be.
func (s *set) same(f *nftables.Set) bool {
	if f.IsMap != (s.verdicts || s.value != nil) || f.Dynamic != s.dynamic || f.HasTimeout != s.dynamic || f.Interval || f.Constant || f.Anonymous {
		return false
	}
	return s.size == 0 || f.Size == s.size
}

// verdictText is the name of the chain that a map's verdict goes to, or something that is no chain's name.
func verdictText(raw []byte) string {
	attrs, err := netlink.NewAttributeDecoder(raw)
	if err != nil {
		return fmt.Sprintf("verdict %x", raw)
	}
	attrs.ByteOrder = binary.BigEndian
	code, chain := int32(0), ""
	for attrs.Next() {
		switch attrs.Type() {
		case unix.NFTA_VERDICT_CODE:
			code = int32(attrs.Uint32())
		case unix.NFTA_VERDICT_CHAIN:
			chain = attrs.String()
		}
	}
	if code != int32(expr.VerdictGoto) {
		return fmt.Sprintf("verdict %d %s", code, chain)
	}
	return chain
}

// set is the library's description of s.
func (k *kernel) set(s *set) *nftables.Set {
	d := &nftables.Set{Table: k.table(), Name: s.name, KeyType: nftables.MustConcatSetType(s.key...), Size: s.size}
	switch {
	case s.verdicts:
		d.IsMap, d.DataType = true, nftables.TypeVerdict
	case s.value != nil:
		d.IsMap, d.DataType = true, nftables.MustConcatSetType(s.value...)
	}
	if s.dynamic {
		d.Dynamic, d.HasTimeout, d.Timeout = true, true, time.Hour
	}
	return d
}

// At most so many elements go in one message (its length is 16 bits, and silently so), and in one transaction.
const (
	perMessage     = 256
	perTransaction = 65536
)

// commit carries a change out, and returns how many transactions that took: one, unless it is huge. After an
// error the ruleset is as after the last whole transaction, and nothing of the failed one is in force.
func (k *kernel) commit(c *change) (transactions uint32, err error) {
	t := k.table()
	if c.rebuild {
		k.conn.AddTable(t) // so that there is one to delete
		k.conn.DelTable(t)
		k.conn.AddTable(t)
		for _, s := range sets {
			if err := k.conn.AddSet(k.set(s), nil); err != nil {
				return 0, fmt.Errorf("describe set %s: %w", s.name, err)
			}
		}
	}
	k.writeChains(t, c)
	pending := 0
	flush := func() error {
		pending = 0
		if err := k.conn.Flush(); err != nil {
			return fmt.Errorf("nftables: %w", refusal(err))
		}
		transactions++
		return nil
	}
	write := func(elements []element, put func(*nftables.Set, []nftables.SetElement) error) error {
		for len(elements) > 0 {
			n := 1
			for n < len(elements) && n < perMessage && elements[n].set == elements[0].set {
				n++
			}
			if pending+n > perTransaction {
				if err := flush(); err != nil {
					return err
				}
			}
			if err := put(k.set(elements[0].set), encode(elements[:n])); err != nil {
				return fmt.Errorf("describe elements of %s: %w", elements[0].set.name, err)
			}
			pending += n
			elements = elements[n:]
		}
		return nil
	}
	// A key whose value changes is deleted and added; those must be in one transaction, so the order of the whole
	// is: deletions, then endpoints, then the ports that point to them.
	if err := write(c.del, k.conn.SetDeleteElements); err != nil {
		return transactions, err
	}
	if err := write(endpointsFirst(c.add), k.conn.SetAddElements); err != nil {
		return transactions, err
	}
	for _, name := range c.remove {
		gone := &nftables.Chain{Name: name, Table: t}
		k.conn.FlushChain(gone)
		k.conn.DelChain(gone)
	}
	return transactions, flush()
}

// writeChains makes all chains before any rule, since rules jump to chains.
func (k *kernel) writeChains(t *nftables.Table, c *change) {
	accept := nftables.ChainPolicyAccept
	for _, m := range c.make {
		d := &nftables.Chain{Name: m.name, Table: t}
		if m.hook != nil {
			d.Type, d.Hooknum, d.Priority, d.Policy = m.hook.kind, &m.hook.at, &m.hook.priority, &accept
		}
		k.conn.AddChain(d)
		if !c.rebuild {
			k.conn.FlushChain(d)
		}
	}
	for _, m := range c.make {
		for _, r := range m.rules {
			k.conn.AddRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: m.name, Table: t}, Exprs: r})
		}
	}
}

// endpointsFirst puts what is pointed to before what points to it; the elements are sorted by set.
func endpointsFirst(elements []element) []element {
	out := make([]element, 0, len(elements))
	for _, verdicts := range []bool{false, true} {
		for _, e := range elements {
			if e.set.verdicts == verdicts {
				out = append(out, e)
			}
		}
	}
	return out
}

func encode(elements []element) []nftables.SetElement {
	out := make([]nftables.SetElement, len(elements))
	for i, e := range elements {
		out[i].Key = []byte(e.key)
		switch {
		case e.set.verdicts:
			out[i].VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.value}
		case e.set.value != nil:
			out[i].Val = []byte(e.value)
		}
	}
	return out
}

// removeTable takes our table away, if there is one.
func (k *kernel) removeTable() error {
	t := k.table()
	k.conn.AddTable(t)
	k.conn.DelTable(t)
	if err := k.conn.Flush(); err != nil {
		return fmt.Errorf("remove table %s: %w", t.Name, refusal(err))
	}
	return nil
}

// refusal names what the kernel means by some of its errors.
func refusal(err error) error {
	for _, r := range []struct {
		errno unix.Errno
		means string
	}{
		{unix.EPERM, "the kernel lets us not (CAP_NET_ADMIN in this network namespace?)"},
		{unix.ENOBUFS, "the socket's buffers are too small"},
		{unix.ENOMEM, "the kernel has no memory for it"},
		{unix.EOPNOTSUPP, "the kernel lacks a feature of nftables"},
	} {
		if errors.Is(err, r.errno) {
			return fmt.Errorf("%s: %w", r.means, err)
		}
	}
	return err
}
