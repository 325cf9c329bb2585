package preview

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Name is a preview's: the environment's, its namespace's, and the label in its host names. A pull request's is "pr-12". A
// branch's begins with "br-", ends in a hash of the branch, and holds what of it is fit for a DNS label between, so that no
// two branches share one and none says more than a label may, whatever it is called.
func Name(p Pull) string {
	if p.Number > 0 {
		return "pr-" + strconv.Itoa(p.Number)
	}
	sum := sha256.Sum256([]byte(p.Branch))
	name := "br-"
	if s := slug(p.Branch); s != "" {
		name += s + "-"
	}
	return name + hex.EncodeToString(sum[:5])
}

// slug is what of s may stand in a DNS label: at most 40 lower-case letters and digits, with single hyphens between.
func slug(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if b.Len() >= 40 {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
