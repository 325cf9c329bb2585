package plan

import "unicode/utf8"

// podMessages is how much the termination messages of a pod's containers may be in all, in bytes: each gets the same
// share, as in Kubernetes. A container's own message is at most 4 KiB when it comes here.
const podMessages = 12 << 10

func (b *statusBuilder) messageShare() int {
	return podMessages / (len(b.p.Spec.InitContainers) + len(b.p.Spec.Containers))
}

// fitMessage gives the beginning of a message, at most that many bytes, and at most three times as many where its
// characters must be escaped: a status that is full of them would not be taken by the ledger.
func fitMessage(text string, most int) string {
	escaped := 0
	for i, r := range text {
		size := utf8.RuneLen(r)
		switch {
		case r == '"' || r == '\\' || r == '\n' || r == '\r' || r == '\t':
			escaped += 2
		case r < ' ' || r == '<' || r == '>' || r == '&' || r == 0x7f || r == '\u2028' || r == '\u2029':
			escaped += 6
		default:
			escaped += max(size, 1)
		}
		if i+max(size, 1) > most || escaped > 3*most {
			return text[:i]
		}
	}
	return text
}
