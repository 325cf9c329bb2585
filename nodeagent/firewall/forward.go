package firewall

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/shoal-dev/shoal/engine/wire"
)

// Blocker is another firewall that drops what pods send or get unless it is told otherwise: Docker's FORWARD
// policy, ufw, firewalld, or somebody's own rules. An accept in our table does not help against a drop in theirs.
type Blocker struct {
	Whose   string   // "ufw", "firewalld", "docker", or "" for an unknown one
	Chain   string   // "chain FORWARD of table ip filter"
	Hook    string   // "forward": traffic of pods; "input": what pods ask the node, DNS above all
	Remedy  []string // commands that let the pods through, to be run as root
	legacy  bool     // in the tables of iptables-legacy
	nftable *nftables.Chain
}

// Blockers lists other firewalls in this network namespace that drop what the pods of t send or get, and have no
// rule yet that lets it through. It changes nothing.
func (f *Firewall) Blockers(ctx context.Context, t wire.Tables) ([]Blocker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	blockers, err := f.blockers(&t)
	if err != nil {
		return nil, fmt.Errorf("firewall: look for others: %w", err)
	}
	return blockers, nil
}

func (f *Firewall) blockers(t *wire.Tables) ([]Blocker, error) {
	var found []Blocker
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		chains, err := f.kernel.conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, fmt.Errorf("list chains: %w", err)
		}
		names := make(map[string][]string, len(chains)) // of chains, by table
		for _, c := range chains {
			names[c.Table.Name] = append(names[c.Table.Name], c.Name)
		}
		for _, c := range chains {
			hook := hookName(c)
			if hook == "" || c.Table.Name == tableName(f.opt.Instance) {
				continue
			}
			c.Table.Family = family
			whose := owner(c.Table.Name, names[c.Table.Name])
			drops := c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
			if !drops && whose != "firewalld" { // firewalld rejects in its last rule
				continue
			}
			if f.passes(c, whose, names[c.Table.Name], hook, t) {
				continue
			}
			b := Blocker{Whose: whose, Hook: hook, nftable: c}
			b.Chain = fmt.Sprintf("chain %s of table %s %s", c.Name, familyName(family), c.Table.Name)
			b.Remedy = remedy(&b, slices.Contains(names[c.Table.Name], "DOCKER-USER"), t)
			found = append(found, b)
		}
	}
	legacy, err := legacyBlockers(t)
	if err != nil {
		return nil, err
	}
	return append(found, legacy...), nil
}

// passes tells whether the rules of a chain, and of those that its owner keeps for people's own rules, let pods
// through. What cannot be read does not.
func (f *Firewall) passes(c *nftables.Chain, whose string, chains []string, hook string, t *wire.Tables) bool {
	rules, err := f.kernel.conn.GetRules(c.Table, c)
	if err != nil {
		return false
	}
	for _, name := range chains {
		asked := name == "DOCKER-USER" && hook == "forward" || whose == "firewalld" && strings.HasPrefix(name, "filter_")
		if !asked || name == c.Name {
			continue
		}
		more, err := f.kernel.conn.GetRules(c.Table, &nftables.Chain{Name: name, Table: c.Table})
		if err != nil {
			return false
		}
		rules = append(rules, more...)
	}
	return letsThrough(rules, hook, t)
}

// hookName is "forward" or "input" for a chain where packets enter at these hooks, else "".
func hookName(c *nftables.Chain) string {
	switch {
	case c.Hooknum == nil || c.Type != nftables.ChainTypeFilter:
		return ""
	case *c.Hooknum == *nftables.ChainHookForward:
		return "forward"
	case *c.Hooknum == *nftables.ChainHookInput:
		return "input"
	}
	return ""
}

func familyName(f nftables.TableFamily) string {
	if f == nftables.TableFamilyINet {
		return "inet"
	}
	return "ip"
}

// owner guesses whose table it is, by the chains that each of the known ones makes.
func owner(table string, chains []string) string {
	switch {
	case table == "firewalld":
		return "firewalld"
	case slices.Contains(chains, "ufw-before-forward"):
		return "ufw"
	case slices.Contains(chains, "DOCKER-USER"), slices.Contains(chains, "DOCKER"):
		return "docker"
	}
	return ""
}

// remedy is what a person would run against a blocker.
func remedy(b *Blocker, dockerUser bool, t *wire.Tables) []string {
	pods, dns := t.Cluster.String(), t.DNS.Addr().String()
	switch {
	case b.Whose == "firewalld":
		return []string{"firewall-cmd --permanent --zone=trusted --add-source=" + pods, "firewall-cmd --reload"}
	case b.Whose == "ufw" && b.Hook == "forward":
		return []string{"ufw route allow from " + pods, "ufw route allow to " + pods}
	case b.Whose == "ufw":
		return []string{"ufw allow from " + pods + " to " + dns}
	case b.nftable != nil && (b.nftable.Name != "FORWARD" && b.nftable.Name != "INPUT" || b.nftable.Table.Family == nftables.TableFamilyINet):
		chain := fmt.Sprintf("%s %s %s", familyName(b.nftable.Table.Family), b.nftable.Table.Name, b.nftable.Name)
		if b.Hook == "input" {
			return []string{fmt.Sprintf("nft insert rule %s ip saddr %s ip daddr %s accept", chain, pods, dns)}
		}
		return []string{fmt.Sprintf("nft insert rule %s ip saddr %s accept", chain, pods), fmt.Sprintf("nft insert rule %s ip daddr %s accept", chain, pods)}
	}
	command := "iptables"
	if b.legacy {
		command = "iptables-legacy"
	}
	if b.Hook == "input" {
		return []string{fmt.Sprintf("%s -I INPUT -s %s -d %s -j ACCEPT", command, pods, dns)}
	}
	chain := "FORWARD"
	if dockerUser {
		chain = "DOCKER-USER" // the one Docker leaves alone
	}
	return []string{fmt.Sprintf("%s -I %s -s %s -j ACCEPT", command, chain, pods), fmt.Sprintf("%s -I %s -d %s -j ACCEPT", command, chain, pods)}
}

// letsThrough tells whether rules accept what pods send and what they get (or, at input, what they ask the node),
// by rules that look at nothing but addresses.
func letsThrough(rules []*nftables.Rule, hook string, t *wire.Tables) bool {
	from, to := false, hook == "input"
	wide := func(p netip.Prefix) bool {
		return !p.IsValid() || p.Bits() <= t.Cluster.Bits() && p.Contains(t.Cluster.Addr())
	}
	for _, r := range rules {
		var source, destination netip.Prefix
		plain, accept, trusted := true, false, false
		for i := 0; i < len(r.Exprs); i++ {
			switch e := r.Exprs[i].(type) {
			case *expr.Payload:
				p, used, ok := addressMatch(r.Exprs[i:])
				i += used
				switch {
				case ok && e.Offset == 12:
					source = p
				case ok && e.Offset == 16:
					destination = p
				default:
					plain = false
				}
			case *expr.Counter:
			case *expr.Meta: // an inet table asks which family it is
				c, compared := next(r.Exprs, i).(*expr.Cmp)
				plain = plain && e.Key == expr.MetaKeyNFPROTO && compared && c.Op == expr.CmpOpEq && bytes.Equal(c.Data, []byte{byte(nftables.TableFamilyIPv4)})
				i++
			case *expr.Verdict:
				accept = e.Kind == expr.VerdictAccept
				trusted = strings.HasSuffix(e.Chain, "_trusted") // firewalld's zone that accepts everything
			default:
				plain = false
			}
		}
		if plain && trusted && source.IsValid() && wide(source) {
			return true
		}
		if !plain || !accept {
			continue
		}
		if hook == "input" {
			from = from || wide(source) && (!destination.IsValid() || destination.Contains(t.DNS.Addr()))
			continue
		}
		from = from || wide(source) && !destination.IsValid()
		to = to || wide(destination) && !source.IsValid()
	}
	return from && to
}

// next is the expression after the i-th, or nil.
func next(e []expr.Any, i int) expr.Any {
	if i+1 < len(e) {
		return e[i+1]
	}
	return nil
}

// addressMatch reads "payload [bitwise] cmp" as a comparison of an address, and says how many further expressions
// it took.
func addressMatch(e []expr.Any) (p netip.Prefix, used int, ok bool) {
	load := e[0].(*expr.Payload)
	if load.Base != expr.PayloadBaseNetworkHeader || load.Len == 0 || load.Len > 4 || len(e) < 2 {
		return p, 0, false
	}
	bits := int(load.Len) * 8
	next := 1
	if b, masked := e[next].(*expr.Bitwise); masked {
		ones, _ := net.IPMask(b.Mask).Size()
		bits, next = ones, 2
	}
	if len(e) <= next {
		return p, next - 1, false
	}
	c, compared := e[next].(*expr.Cmp)
	if !compared || c.Op != expr.CmpOpEq || len(c.Data) > 4 {
		return p, next - 1, false
	}
	var ip [4]byte
	copy(ip[:], c.Data)
	return netip.PrefixFrom(netip.AddrFrom4(ip), bits), next, true
}

// AllowForward inserts rules into other firewalls that let the pods of t through, marked with our name, wherever
// Blockers finds one. Purge takes them out again. What it inserted and finds again it leaves alone.
func (f *Firewall) AllowForward(ctx context.Context, t wire.Tables) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	blockers, err := f.blockers(&t)
	if err != nil {
		return fmt.Errorf("firewall: look for others: %w", err)
	}
	for _, b := range blockers {
		if b.legacy {
			if err := legacyAllow(ctx, tableName(f.opt.Instance), b.Hook, &t); err != nil {
				return fmt.Errorf("firewall: let pods through %s: %w", b.Chain, err)
			}
			continue
		}
		accept := words{accept()}
		rules := []rule{all(inside(saddr, t.Cluster), accept), all(inside(daddr, t.Cluster), accept)}
		if b.Hook == "input" {
			rules = []rule{all(inside(saddr, t.Cluster), words{daddr(key0), equal(key0, t.DNS.Addr().AsSlice())}, accept)}
		}
		for _, r := range rules {
			if b.nftable.Table.Family == nftables.TableFamilyINet {
				r.exprs = slices.Concat(words{meta(expr.MetaKeyNFPROTO, key0), equal(key0, []byte{byte(nftables.TableFamilyIPv4)})}, r.exprs)
			}
			f.kernel.conn.InsertRule(&nftables.Rule{Table: b.nftable.Table, Chain: b.nftable, Exprs: r.exprs, UserData: f.mark()})
		}
		if err := f.kernel.conn.Flush(); err != nil {
			return fmt.Errorf("firewall: let pods through %s: %w", b.Chain, refusal(err))
		}
		f.loaded = nil // the generation moved on
		f.opt.Log.Info("pods are let through another firewall", "why", b.Chain)
	}
	return nil
}

// mark is the comment of what we insert into others' chains.
func (f *Firewall) mark() []byte {
	return userdata.AppendString(nil, userdata.TypeComment, tableName(f.opt.Instance))
}

// disallowForward takes out what AllowForward inserted.
func (f *Firewall) disallowForward(ctx context.Context) error {
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		chains, err := f.kernel.conn.ListChainsOfTableFamily(family)
		if err != nil {
			return fmt.Errorf("list chains: %w", err)
		}
		for _, c := range chains {
			c.Table.Family = family
			if hookName(c) == "" || c.Table.Name == tableName(f.opt.Instance) {
				continue
			}
			rules, err := f.kernel.conn.GetRules(c.Table, c)
			if err != nil {
				continue // what cannot be read was not written by us
			}
			for _, r := range rules {
				if !bytes.Equal(r.UserData, f.mark()) {
					continue
				}
				if err := f.kernel.conn.DelRule(&nftables.Rule{Table: c.Table, Chain: c, Handle: r.Handle}); err != nil {
					return fmt.Errorf("describe rule of chain %s: %w", c.Name, err)
				}
			}
		}
	}
	if err := f.kernel.conn.Flush(); err != nil {
		return fmt.Errorf("take our rules out of others' chains: %w", refusal(err))
	}
	return legacyDisallow(ctx, tableName(f.opt.Instance))
}
