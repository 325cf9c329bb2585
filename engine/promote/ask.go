package promote

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/engine/desired"
	"github.com/shoal-dev/shoal/engine/source"
)

// Act is what a commit on an environment's ref claims to be.
type Act string

const (
	Plain     Act = "plain"     // it claims nothing
	Promotion Act = "promotion" // the tree of another environment's commit
	Rollback  Act = "rollback"  // the tree of a commit that ran here before
	Hotfix    Act = "hotfix"    // a change of its own, with gates waived by name
	Pin       Act = "pin"       // the same tree; nothing is promoted for a time
	Unpin     Act = "unpin"     // the same tree; a pin is lifted
)

// The trailers of this package, beside those of package source.
const (
	TrailerRolledBackTo = "Shoal-Rolled-Back-To" // "<commit>"
	TrailerRequest      = "Shoal-Request"        // 32 hex digits: which act a commit carries out
	TrailerMergedBack   = "Shoal-Merged-Back"    // "<commit>": this commit does what that hotfix did
)

// Bounds of a message.
const (
	MaxMessage  = 64 << 10 // bytes of a message that is read
	MaxReason   = 1000     // bytes of a reason
	MaxEvidence = 64       // trailers of evidence
	maxBy       = 200
	maxProof    = 500
	maxBody     = 16 << 10
	maxWaived   = 16
)

// lifted is what Shoal-Pin-Until says when a pin ends before its time.
const lifted = "lifted"

// Automatic is who asks when the ring promotes by itself.
const Automatic = "shoal"

// Ask is what a commit's message claims. Whether it is so is for Judge to find out.
type Ask struct {
	Act      Act            `json:"act"`
	From     string         `json:"from,omitempty"`     // promotion: the environment it comes from
	Source   source.ID      `json:"source,omitempty"`   // promotion: the commit of From; rollback: the commit gone back to
	Render   desired.Digest `json:"render,omitempty"`   // promotion: what From ran at Source (Exact); "": not said
	By       string         `json:"by,omitempty"`       // who asked; Automatic: the ring itself
	Reason   string         `json:"reason,omitempty"`   // one line
	Waived   []string       `json:"waived,omitempty"`   // hotfix: gates, sorted
	PinUntil int64          `json:"pinUntil,omitempty"` // nothing is promoted until then; ms, whole seconds; 0: no pin
	Evidence []Proof        `json:"evidence,omitempty"` // what gates said when the commit was made
	Request  string         `json:"request,omitempty"`  // see Request
	Hint     string         `json:"hint,omitempty"`     // of a plain commit: why what looks like a claim is none
}

// Proof is one gate's word, for people to read later.
type Proof struct {
	Gate string `json:"gate"`
	Text string `json:"text"`
}

// check holds what is written and read to the same rules.
func (a Ask) check() error {
	bad := func(field, format string, v ...any) error {
		return fmt.Errorf("%s: %s", field, fmt.Sprintf(format, v...))
	}
	switch a.Act {
	case Promotion:
		if !isLabel(a.From) {
			return bad(source.TrailerPromotedFrom, "%q is no environment's name", clip(a.From, 64))
		}
		if !a.Source.Valid() {
			return bad(source.TrailerPromotedFrom, "%q is no commit; expected 40 hex digits", clip(string(a.Source), 64))
		}
		if a.Render != "" && !a.Render.Valid() {
			return bad(source.TrailerPromotedFrom, "%q is no render; expected 64 hex digits", clip(string(a.Render), 64))
		}
	case Rollback:
		if !a.Source.Valid() {
			return bad(TrailerRolledBackTo, "%q is no commit; expected 40 hex digits", clip(string(a.Source), 64))
		}
	case Hotfix:
		if len(a.Waived) > maxWaived {
			return bad(source.TrailerHotfix, "%d gates; at most %d", len(a.Waived), maxWaived)
		}
		for i, g := range a.Waived {
			if !isGate(g) || !waivable(g) {
				return bad(source.TrailerHotfix, "%q is no gate that can be waived; expected %s, or none", clip(g, 64), oneOf(gateWords))
			}
			if i > 0 && g <= a.Waived[i-1] {
				return bad(source.TrailerHotfix, "gate %s after %s; expected them sorted, each once", g, a.Waived[i-1])
			}
		}
		if a.Reason == "" {
			return bad(source.TrailerHotfix, "no reason; expected \"GATES REASON\", like \"soak,window payments are down\"")
		}
	case Pin:
		if a.PinUntil == 0 {
			return bad(source.TrailerPinUntil, "no time")
		}
	case Unpin, Plain:
	default:
		return bad("act", "%q is none", clip(string(a.Act), 64))
	}
	if a.Act != Promotion && (a.From != "" || a.Render != "") || a.Act != Promotion && a.Act != Rollback && a.Source != "" || a.Act != Hotfix && len(a.Waived) > 0 {
		return bad("act", "%s, with fields of another act", a.Act)
	}
	if a.PinUntil != 0 {
		if a.Act == Unpin || a.Act == Plain || a.PinUntil < 0 || a.PinUntil%1000 != 0 || a.PinUntil > maxTime {
			return bad(source.TrailerPinUntil, "%d; expected ms since 1970, in whole seconds, up to the year 9999, on a promotion, rollback, hotfix or pin", a.PinUntil)
		}
		if a.Reason == "" {
			return bad(source.TrailerReason, "is missing; a pin says why")
		}
	}
	for _, f := range [...]struct {
		name, value string
		most        int
	}{{source.TrailerBy, a.By, maxBy}, {source.TrailerReason, a.Reason, MaxReason}} {
		if !isLine(f.value, f.most) {
			return bad(f.name, "%q; expected one line of at most %d bytes that can be printed", clip(f.value, 64), f.most)
		}
	}
	if len(a.Evidence) > MaxEvidence {
		return bad(source.TrailerEvidence, "%d times; at most %d", len(a.Evidence), MaxEvidence)
	}
	for _, p := range a.Evidence {
		if !isGate(p.Gate) || p.Text == "" || !isLine(p.Text, maxProof) {
			return bad(source.TrailerEvidence, "%q; expected \"GATE WORDS\" in one line of at most %d bytes", clip(p.Gate+" "+p.Text, 64), maxProof)
		}
	}
	if a.Request != "" && !isRequest(a.Request) {
		return bad(TrailerRequest, "%q; expected 32 hex digits", clip(a.Request, 64))
	}
	return nil
}

// maxTime is the last second of the year 9999, in ms.
const maxTime = 253402300799000

func isRequest(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" }

// Write is the message of a commit that carries an ask out on an environment's ref. It is the same for the same
// arguments. body goes between subject and trailers and may be empty: the commits that come along, say. An error names the
// trailer that cannot be written.
func Write(environment string, a Ask, body string) (string, error) {
	if a.Act == Plain {
		return "", fmt.Errorf("act: %s commits are not written", a.Act)
	}
	if !isLabel(environment) {
		return "", fmt.Errorf("environment: %q is no environment's name", clip(environment, 64))
	}
	if err := a.check(); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(a.subject(environment) + "\n\n")
	if body = cleanBody(body); body != "" {
		b.WriteString(body + "\n\n")
	}
	trailer := func(key, value string) {
		if value != "" {
			b.WriteString(key + ": " + value + "\n")
		}
	}
	reason := a.Reason
	switch a.Act {
	case Promotion:
		trailer(source.TrailerPromotedFrom, strings.TrimSpace(fmt.Sprintf("%s %s %s", a.From, a.Source, a.Render)))
	case Rollback:
		trailer(TrailerRolledBackTo, string(a.Source))
	case Hotfix:
		trailer(source.TrailerHotfix, cmp.Or(strings.Join(a.Waived, ","), noGates)+" "+a.Reason)
		reason = ""
	case Unpin:
		trailer(source.TrailerPinUntil, lifted)
	case Pin, Plain:
	}
	trailer(source.TrailerBy, a.By)
	trailer(source.TrailerReason, reason)
	if a.PinUntil != 0 {
		trailer(source.TrailerPinUntil, stamp(a.PinUntil))
	}
	for _, p := range a.Evidence {
		trailer(source.TrailerEvidence, p.Gate+" "+p.Text)
	}
	trailer(TrailerRequest, a.Request)
	return b.String(), nil
}

// noGates stands for a hotfix that waives no gate.
const noGates = "none"

func (a Ask) subject(environment string) string {
	switch a.Act {
	case Promotion:
		return fmt.Sprintf("Promote %s %s to %s", a.From, a.Source.Short(), environment)
	case Rollback:
		return fmt.Sprintf("Roll %s back to %s", environment, a.Source.Short())
	case Hotfix:
		return clip("Hotfix "+environment+": "+a.Reason, 100)
	case Pin:
		return fmt.Sprintf("Pin %s until %s", environment, stamp(a.PinUntil))
	case Unpin, Plain:
	}
	return "Lift the pin of " + environment
}

// cleanBody is body without what cannot be printed, cut to its bound. No line of it looks like a trailer of ours.
func cleanBody(body string) string {
	var lines []string
	for line := range strings.SplitSeq(body, "\n") {
		line = Line(line, 500)
		if key, _, ok := strings.Cut(line, ":"); ok && strings.HasPrefix(strings.ToLower(key), "shoal-") {
			line = "> " + line
		}
		lines = append(lines, line)
		if len(lines) > 500 {
			break
		}
	}
	body = strings.Trim(strings.Join(lines, "\n"), "\n ")
	if len(body) > maxBody {
		body = body[:maxBody]
		body = body[:strings.LastIndexByte(body, '\n')+1] + "..."
	}
	return body
}

// Read is what a commit's message claims. A message without claims is Plain. One that claims what cannot be, or two
// things, is an error that names the trailer and what was expected.
func Read(message string) (Ask, error) {
	if len(message) > MaxMessage {
		return Ask{}, fmt.Errorf("the message is %d bytes long; at most %d", len(message), MaxMessage)
	}
	a := Ask{Act: Plain}
	trailers := source.Trailers(message)
	if !slices.ContainsFunc(trailers, func(t source.Trailer) bool { return slices.Contains(deciding, ownTrailer(t.Key)) }) {
		return Ask{Act: Plain, Hint: stray(message)}, nil
	}
	seen := map[string]bool{}
	for _, t := range trailers {
		key := ownTrailer(t.Key)
		if key == "" {
			continue
		}
		if key != source.TrailerEvidence && seen[key] {
			return Ask{}, fmt.Errorf("%s: stands there twice", key)
		}
		seen[key] = true
		if err := a.take(key, t.Value); err != nil {
			return Ask{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	if a.Act == Plain && a.PinUntil != 0 {
		a.Act = Pin
	}
	if err := a.check(); err != nil {
		return Ask{}, err
	}
	return a, nil
}

// deciding are the trailers that make a commit more than plain.
var deciding = []string{source.TrailerPromotedFrom, TrailerRolledBackTo, source.TrailerHotfix, source.TrailerPinUntil}

// ownTrailer is the proper spelling of a trailer that Read takes, or "".
func ownTrailer(key string) string {
	for _, own := range append([]string{source.TrailerBy, source.TrailerReason, source.TrailerEvidence, TrailerRequest}, deciding...) {
		if strings.EqualFold(own, key) {
			return own
		}
	}
	return ""
}

// take takes one trailer.
func (a *Ask) take(key, value string) error {
	claim := func(act Act) error {
		if a.Act != Plain {
			return fmt.Errorf("the commit says already that it is a %s; expected one of them", a.Act)
		}
		a.Act = act
		return nil
	}
	switch key {
	case source.TrailerPromotedFrom:
		f := strings.Fields(value)
		if len(f) != 2 && len(f) != 3 {
			return fmt.Errorf("%q; expected \"ENVIRONMENT COMMIT\"", clip(value, 64))
		}
		a.From, a.Source = f[0], source.ID(f[1])
		if len(f) == 3 {
			a.Render = desired.Digest(f[2])
		}
		return claim(Promotion)
	case TrailerRolledBackTo:
		a.Source = source.ID(value)
		return claim(Rollback)
	case source.TrailerHotfix:
		gates, reason, _ := strings.Cut(value, " ")
		if gates != noGates {
			if strings.Count(gates, ",") >= maxWaived {
				return fmt.Errorf("more than %d gates", maxWaived)
			}
			a.Waived = strings.Split(gates, ",")
			slices.Sort(a.Waived)
		}
		a.Reason = strings.TrimSpace(reason) // this one counts, beside a Shoal-Reason
		return claim(Hotfix)
	case source.TrailerPinUntil:
		if value == lifted {
			return claim(Unpin)
		}
		t, err := time.Parse(time.RFC3339, value)
		if err != nil || t.Unix() <= 0 {
			return fmt.Errorf("%q; expected a time like 2026-12-01T00:00:00Z, or %s", clip(value, 64), lifted)
		}
		a.PinUntil = t.Unix() * 1000
	case source.TrailerBy:
		a.By = value
	case source.TrailerReason:
		if a.Act != Hotfix {
			a.Reason = value
		}
	case source.TrailerEvidence:
		gate, text, _ := strings.Cut(value, " ")
		a.Evidence = append(a.Evidence, Proof{gate, strings.TrimSpace(text)})
	case TrailerRequest:
		a.Request = value
	}
	return nil
}

// stray finds what looks like a claim and stands where Git reads no trailers.
func stray(message string) string {
	n := 0
	for line := range strings.SplitSeq(message, "\n") {
		n++
		key, _, ok := strings.Cut(line, ":")
		if own := ownTrailer(key); ok && slices.Contains(deciding, own) {
			return fmt.Sprintf("line %d of its message, %s, does not count: trailers stand in the last paragraph, which holds nothing else", n, own)
		}
	}
	return ""
}
