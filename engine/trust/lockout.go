package trust

import (
	"slices"
	"strings"
	"time"
)

// LimitsPaths says whether the rights of somebody depend on which paths a commit changes.
func (k *Keys) LimitsPaths() bool {
	if k == nil {
		return false
	}
	for _, grants := range k.rights.principals {
		for _, g := range grants {
			if g.paths != nil {
				return true
			}
		}
	}
	return false
}

// soon is for how long before its end a last key is warned of.
const soon = 30 * 24 * time.Hour

// Lockouts says who keys/ keeps out that it is probably not meant to: environments that nobody whose key is good at now may
// sign for, and keys/ itself if nobody may change it, so that a key that is lost could not be replaced. It is nil where nothing
// must be signed, and where keys/ has problems.
func (k *Keys) Lockouts(environments []string, now time.Time) Problems {
	if !k.Require() || len(k.Problems()) > 0 {
		return nil
	}
	var ps Problems
	ends := map[string]time.Time{} // of the principals with a good key: the last end of one; zero for none
	var last time.Time
	endless := false
	for _, key := range k.Keys() {
		if key.good(now, now, 0) != nil {
			continue
		}
		end, known := ends[key.Principal]
		switch {
		case key.Until.IsZero():
			ends[key.Principal], endless = time.Time{}, true
		case !known || !end.IsZero() && key.Until.After(end):
			ends[key.Principal] = key.Until
		}
		if key.Until.After(last) {
			last = key.Until
		}
	}
	if len(ends) == 0 {
		ps.add(rightsFile, 0, "require: true, but no key in %s/ is good now: nobody can sign the next commit", Dir)
		return ps
	}
	if !endless && now.Add(soon).After(last) {
		ps.add(rightsFile, 0, "require: true, and the last key in %s/ expires at %s: renew one before, signed by one that is still good", Dir, stamp(last))
	}
	var none []string
	mend := false
	for _, e := range slices.Sorted(slices.Values(environments)) {
		some := false
		for name := range ends {
			some = some || k.Allows(name, e, nil) == nil
			mend = mend || k.Allows(name, e, []string{signersFile, rightsFile}) == nil
		}
		if !some {
			none = append(none, e)
		}
	}
	if len(none) > 0 {
		ps.add(rightsFile, 0, "require: true, but nobody whose key is good may sign for %s: nothing new can run there", strings.Join(none, ", "))
	}
	if !mend && len(environments) > len(none) {
		ps.add(rightsFile, 0, "nobody whose key is good may change %s and %s: a key that is lost or expires cannot be replaced", signersFile, rightsFile)
	}
	return ps
}
