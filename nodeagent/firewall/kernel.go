package firewall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

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
		return 0, fmt.Errorf("read generation of the ruleset: %w", refusal(err))
	}
	for _, m := range reply {
		if len(m.Data) < 4 {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read generation of the ruleset: %w", refusal(err))
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
		return nil, fmt.Errorf("read table %s: %w", t.Name, refusal(err))
	}
	img := &image{chains: make(map[string]imageChain), sets: make(map[string]string), elements: make(map[string]map[string]string)}
	nameless, err := k.readSets(t, img)
	if err != nil {
		return nil, err
	}
	return img, k.readChains(t, img, nameless)
}

// readChains needs what the maps without names say, since rules are made with them.
func (k *kernel) readChains(t *nftables.Table, img *image, nameless map[string]string) error {
	chains, err := k.conn.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return fmt.Errorf("list chains: %w", refusal(err))
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
			ic.rules = append(ic.rules, foundBytes(r.Exprs, nameless))
		}
		img.chains[c.Name] = ic
	}
	return nil
}

// foundBytes is a rule read back, in the form of rule.bytes.
func foundBytes(exprs []expr.Any, nameless map[string]string) string {
	if n := len(exprs); n > 0 {
		if l, ok := exprs[n-1].(*expr.Lookup); ok && l.SourceRegister == key0 && l.IsDestRegSet && l.DestRegister == 0 && !l.Invert {
			if draw, found := nameless[l.SetName]; found {
				return exprBytes(exprs[:n-1]) + draw
			}
		}
	}
	return exprBytes(exprs)
}

// readSets fills img with sets and their elements, and returns what the maps without names say, by the names that
// the kernel gave them.
func (k *kernel) readSets(t *nftables.Table, img *image) (nameless map[string]string, err error) {
	found, err := k.conn.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", refusal(err))
	}
	nameless = make(map[string]string)
	for _, f := range found {
		f.Table = t
		if f.Dynamic { // its elements come and go with packets
			img.sets[f.Name] = definition(f.IsMap, f.HasTimeout, keyBytes(f))
			continue
		}
		elements, err := k.readElements(f)
		if err != nil {
			return nil, err
		}
		if f.Anonymous {
			nameless[f.Name] = drawText(elements)
			continue
		}
		img.sets[f.Name] = definition(f.IsMap, f.HasTimeout, keyBytes(f))
		img.elements[f.Name] = elements
	}
	return nameless, nil
}

// keyBytes is the length of a set's key. Of a map of verdicts the library reads the type over that of the key.
func keyBytes(f *nftables.Set) uint32 {
	if f.KeyType.Name == nftables.TypeVerdict.Name {
		return 0
	}
	return f.KeyType.Bytes
}

// readElements returns the elements of one set, the verdicts of a map as names of chains.
func (k *kernel) readElements(f *nftables.Set) (map[string]string, error) {
	found, err := k.conn.GetSetElements(f)
	if err != nil {
		return nil, fmt.Errorf("read elements of %s: %w", f.Name, err)
	}
	elements := make(map[string]string, len(found))
	for _, e := range found {
		v := string(e.Val)
		if len(e.Val) > 8 { // no endpoint is longer, every verdict that goes to a chain is
			v = verdictText(e.Val)
		}
		elements[string(e.Key)] = v
	}
	return elements, nil
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
	d := &nftables.Set{Table: k.table(), Name: s.name}
	d.KeyType = concat(s.key)
	switch {
	case s.verdicts:
		d.IsMap, d.DataType = true, nftables.TypeVerdict
	case s.value != nil:
		d.IsMap, d.DataType = true, concat(s.value)
	}
	if s.clients {
		d.Dynamic, d.HasTimeout, d.Size = true, true, maxClients
	}
	return d
}

func concat(types []nftables.SetDatatype) nftables.SetDatatype {
	if len(types) == 1 {
		return types[0]
	}
	return nftables.MustConcatSetType(types...)
}

// At most so many elements go in one message (its length is 16 bits, and silently so), and in one transaction.
const (
	perMessage     = 256
	perTransaction = 65536
)

// commit carries a change out, and returns how many transactions that took: one, unless it is huge. After an
// error the ruleset is as after the last whole transaction, and nothing of the failed one is in force.
//
// The order matters: a chain can go once nothing goes to it, a set once no rule looks into it, and an element can
// come once the chain it goes to is there.
func (k *kernel) commit(c *change) (transactions uint32, err error) {
	t := k.table()
	b := &batch{kernel: k, table: t}
	if c.rebuild {
		k.conn.AddTable(t) // so that there is one to delete
		k.conn.DelTable(t)
		k.conn.AddTable(t)
	}
	for _, s := range c.newSets {
		if err := k.conn.AddSet(k.set(s), nil); err != nil {
			return 0, fmt.Errorf("describe set %s: %w", s.name, err)
		}
	}
	if err := b.elements(c.del, k.conn.SetDeleteElements); err != nil {
		return b.transactions, err
	}
	if err := b.chains(c); err != nil {
		return b.transactions, err
	}
	for _, name := range c.removeSets {
		k.conn.DelSet(&nftables.Set{Table: t, Name: name})
	}
	// Should this take several transactions: isolation is in force with the first, and endpoints come before the ports that lead to
	// them, so that no port leads nowhere.
	for _, put := range []func(e element) bool{
		func(e element) bool { return e.isolates() },
		func(e element) bool { return !e.isolates() && !e.set.verdicts },
		func(e element) bool { return !e.isolates() && e.set.verdicts },
	} {
		part := slices.DeleteFunc(slices.Clone(c.add), func(e element) bool { return !put(e) })
		if err := b.elements(part, k.conn.SetAddElements); err != nil {
			return b.transactions, err
		}
	}
	return b.transactions, b.flush()
}

// batch is a transaction, or several, being put together.
type batch struct {
	kernel       *kernel
	table        *nftables.Table
	pending      int // elements
	transactions uint32
}

func (b *batch) flush() error {
	b.pending = 0
	if err := b.kernel.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", refusal(err))
	}
	b.transactions++
	return nil
}

// elements writes elements, sorted by set, with put.
func (b *batch) elements(list []element, put func(*nftables.Set, []nftables.SetElement) error) error {
	for len(list) > 0 {
		n := 1
		for n < len(list) && n < perMessage && list[n].set.name == list[0].set.name {
			n++
		}
		if b.pending+n > perTransaction {
			if err := b.flush(); err != nil {
				return err
			}
		}
		if err := put(b.kernel.set(list[0].set), encode(list[:n])); err != nil {
			return fmt.Errorf("describe elements of %s: %w", list[0].set.name, err)
		}
		b.pending += n
		list = list[n:]
	}
	return nil
}

// chains makes all chains before any rule, since rules go to chains, and removes some after the others no longer
// go to them.
func (b *batch) chains(c *change) error {
	accept := nftables.ChainPolicyAccept
	conn := b.kernel.conn
	for _, m := range c.make {
		d := &nftables.Chain{Name: m.name, Table: b.table}
		if m.hook != nil {
			d.Type, d.Hooknum, d.Priority, d.Policy = m.hook.kind, &m.hook.at, &m.hook.priority, &accept
		}
		conn.AddChain(d)
		if !c.rebuild {
			conn.FlushChain(d)
		}
	}
	for _, name := range c.remove {
		conn.FlushChain(&nftables.Chain{Name: name, Table: b.table})
	}
	for _, m := range c.make {
		for _, r := range m.rules {
			exprs, err := b.draw(r)
			if err != nil {
				return fmt.Errorf("describe chain %s: %w", m.name, err)
			}
			conn.AddRule(&nftables.Rule{Table: b.table, Chain: &nftables.Chain{Name: m.name, Table: b.table}, Exprs: exprs})
		}
	}
	for _, name := range c.remove {
		conn.DelChain(&nftables.Chain{Name: name, Table: b.table})
	}
	return nil
}

// draw returns the expressions of a rule, having made the map without a name that it draws from.
func (b *batch) draw(r rule) ([]expr.Any, error) {
	if len(r.draw) == 0 {
		return r.exprs, nil
	}
	m := &nftables.Set{
		Table: b.table, Anonymous: true, Constant: true, IsMap: true,
		KeyType: nftables.TypeInteger, DataType: nftables.TypeVerdict,
	}
	elements := make([]nftables.SetElement, len(r.draw))
	for i, name := range r.draw {
		elements[i] = nftables.SetElement{Key: bigEndian32(uint32(i)), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: name}}
	}
	if err := b.kernel.conn.AddSet(m, elements); err != nil {
		return nil, err
	}
	return slices.Concat(r.exprs, r.numgen(), words{&expr.Lookup{SourceRegister: key0, DestRegister: 0, IsDestRegSet: true, SetName: m.Name, SetID: m.ID}}), nil
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
