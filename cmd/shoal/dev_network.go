package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// localNet is the network of a ring on one machine: a namespace for each node, and one with the switch they are plugged
// into. The switch has a namespace of its own so that no firewall of this machine looks at what nodes say to each other.
// One cable leads from the switch to this machine, which is the nodes' way out. All that is made is named after mark.
type localNet struct {
	mark   string       // six hex digits
	prefix netip.Prefix // a /24
	record string       // file for what the sysctl was before
}

// netnsDir is where namespaces have names, for `ip netns` too.
const netnsDir = "/run/netns"

const forwarding = "/proc/sys/net/ipv4/ip_forward"

func (l localNet) namespace(name string) string { return "shoal-" + name + "-" + l.mark }

func (l localNet) switchName() string { return l.namespace("switch") }

func (l localNet) cable() string { return "sd-" + l.mark }

func (l localNet) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "shoal-dev-" + l.mark}
}

// address is that of the nth node, from 1.
func (l localNet) address(n int) netip.Addr {
	a := l.prefix.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

// gateway is this machine, for the nodes.
func (l localNet) gateway() netip.Addr { return l.address(254) }

func (l localNet) on(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(l.prefix.Bits(), 32)}}
}

// make makes the network for nodes of these names, in this order of addresses.
func (l localNet) make(nodes []string) error {
	if err := newNamespace(l.switchName()); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := newNamespace(l.namespace(node)); err != nil {
			return err
		}
	}
	if err := l.connect(); err != nil {
		return fmt.Errorf("connect this machine with the switch: %w", err)
	}
	for i, node := range nodes {
		if err := l.plug(node, i+1); err != nil {
			return fmt.Errorf("plug %s into the switch: %w", node, err)
		}
	}
	if err := l.wayOut(); err != nil {
		return fmt.Errorf("the nodes' way out: %w", err)
	}
	return nil
}

// connect makes the switch, and the cable between it and this machine.
func (l localNet) connect() error {
	ns, err := os.Open(filepath.Join(netnsDir, l.switchName()))
	if err != nil {
		return err
	}
	defer ns.Close()
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: l.cable()}, PeerName: "machine", PeerNamespace: netlink.NsFd(int(ns.Fd()))}
	if err := netlink.LinkAdd(cable); err != nil {
		return err
	}
	if err := netlink.AddrAdd(cable, l.on(l.gateway())); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		return err
	}
	return inNamespace(l.switchName(), func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(bridge); err != nil {
			return err
		}
		return plugInto(bridge, "machine")
	})
}

func plugInto(bridge netlink.Link, port string) error {
	link, err := netlink.LinkByName(port)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// plug leads a cable from a node to the switch.
func (l localNet) plug(node string, number int) error {
	ns, err := os.Open(filepath.Join(netnsDir, l.namespace(node)))
	if err != nil {
		return err
	}
	defer ns.Close()
	err = inNamespace(l.switchName(), func() error {
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: node}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns.Fd()))}
		if err := netlink.LinkAdd(cable); err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("switch")
		if err != nil {
			return err
		}
		return plugInto(bridge, node)
	})
	if err != nil {
		return err
	}
	return inNamespace(l.namespace(node), func() error {
		for _, name := range []string{"lo", "eth0"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if name == "eth0" {
				if err := netlink.AddrAdd(link, l.on(l.address(number))); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		return netlink.RouteAdd(&netlink.Route{Gw: l.gateway().AsSlice()})
	})
}

// wayOut has this machine route for the nodes, under its own addresses.
func (l localNet) wayOut() error {
	before, err := os.ReadFile(forwarding)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(before)) != "1" {
		if err := os.WriteFile(l.record, before, 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(forwarding, []byte("1"), 0); err != nil {
			return err
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(l.table())
	chain := conn.AddChain(&nftables.Chain{
		Name: "out", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, l.cable())
	network := l.prefix.Addr().As4()
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, // the source
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(l.prefix.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network[:]},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
		&expr.Masq{},
	}})
	return conn.Flush()
}

// remove takes away what make made, or a make that was interrupted. It may be repeated.
func (l localNet) remove() error {
	var problems []error
	if link, err := netlink.LinkByName(l.cable()); err == nil {
		problems = append(problems, netlink.LinkDel(link))
	}
	problems = append(problems, l.removeTable())
	if before, err := os.ReadFile(l.record); err == nil {
		problems = append(problems, os.WriteFile(forwarding, before, 0), os.Remove(l.record))
	}
	names, err := l.namespaces()
	problems = append(problems, err)
	for _, name := range names {
		problems = append(problems, removeNamespace(name))
	}
	return errors.Join(problems...)
}

func (l localNet) removeTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Name == l.table().Name {
			conn.DelTable(t)
			return conn.Flush()
		}
	}
	return nil
}

// namespaces are the names of those that are ours.
func (l localNet) namespaces() ([]string, error) {
	all, err := filepath.Glob(filepath.Join(netnsDir, "shoal-*-"+l.mark))
	for i, path := range all {
		all[i] = filepath.Base(path)
	}
	return all, err
}

// newNamespace makes a network namespace of that name.
func newNamespace(name string) error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(netnsDir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return errors.Join(fmt.Errorf("make network namespace %s: %w", name, err), os.Remove(path))
	}
	return nil
}

func removeNamespace(name string) error {
	path := filepath.Join(netnsDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) { // EINVAL: an interrupted newNamespace mounted nothing
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// inNamespace runs f on a thread of its own inside a network namespace. Sockets and processes that are made there belong
// there. What is to die with this process stays in f for its whole life: the kernel's word for that is bound to the thread.
func inNamespace(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(filepath.Join(netnsDir, name))
		if err != nil {
			done <- err
			return
		}
		err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		ns.Close()
		if err != nil {
			done <- fmt.Errorf("enter network namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// freeRange finds 254 addresses for nodes that this machine has no route to, and that are none of taken.
func freeRange(taken ...netip.Prefix) (netip.Prefix, error) {
	routed, err := routedRanges()
	if err != nil {
		return netip.Prefix{}, err
	}
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 207, byte(i), 0}), 24)
		if overlapping(p, append(routed, taken...)) == nil {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no range of addresses in 10.207.0.0/16 is free for the nodes")
}

// overlapping is the first of others that has an address of p; nil: none has.
func overlapping(p netip.Prefix, others []netip.Prefix) *netip.Prefix {
	for i := range others {
		if others[i].Overlaps(p) {
			return &others[i]
		}
	}
	return nil
}

// routedRanges are what this machine has routes to, less the default.
func routedRanges() (all []netip.Prefix, err error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok {
			if bits, _ := r.Dst.Mask.Size(); bits > 0 {
				all = append(all, netip.PrefixFrom(a, bits))
			}
		}
	}
	return all, nil
}
