package promote

import (
	"fmt"
	"strings"
)

// State is how a gate stands, or all gates of a verdict.
type State string

const (
	Open    State = "open"
	Waiting State = "waiting" // for a time, or for somebody
	Refused State = "refused" // it will not come in as it is
	Waived  State = "waived"  // by a hotfix
)

// Gate is one gate's answer.
type Gate struct {
	Name        string `json:"name"`                  // "soak", "checks:latency"
	Environment string `json:"environment,omitempty"` // that it asks about
	State       State  `json:"state"`
	Text        string `json:"text"`              // the evidence, or what is missing
	Turn        string `json:"turn,omitempty"`    // whose turn it is, unless it is open: "time", "staging", "1 more of leads"
	Until       int64  `json:"until,omitempty"`   // Waiting: when it opens if nothing else happens; ms; 0: by itself it does not
	Changes     int64  `json:"changes,omitempty"` // when time alone may next change the state, ms; 0: never
}

// String is a line for people, with the state first.
func (g Gate) String() string { return fmt.Sprintf("%-8s %s", g.State, g.Why()) }

// Why is a line for people: "soak in staging: 2h of 24h on 3f6c; until 2026-11-24T09:00:00Z [time]".
func (g Gate) Why() string {
	s := g.Name
	if g.Environment != "" {
		s += " in " + g.Environment
	}
	s += ": " + g.Text
	if g.Until != 0 {
		s += "; until " + stamp(g.Until)
	}
	if g.Turn != "" {
		s += " [" + g.Turn + "]"
	}
	return s
}

// turnTime is whose turn it is where only time helps.
const turnTime = "time"

// Verdict is every gate's answer, in a fixed order.
type Verdict struct {
	State State  `json:"state"` // Refused if a gate is, else Waiting if one is, else Open
	Gates []Gate `json:"gates"`
	// Next is the earliest time after now at which anything in here may change by time alone, ms; 0: never.
	Next int64 `json:"next,omitempty"`
	// Evidence is what goes into the commit that is made on this verdict.
	Evidence []Proof `json:"evidence,omitempty"`
}

// Blocks lists the gates that are neither open nor waived.
func (v Verdict) Blocks() []Gate {
	var out []Gate
	for _, g := range v.Gates {
		if g.State == Waiting || g.State == Refused {
			out = append(out, g)
		}
	}
	return out
}

// String is a line a gate.
func (v Verdict) String() string {
	var b strings.Builder
	b.WriteString(string(v.State))
	if v.Next != 0 {
		b.WriteString(", next look " + stamp(v.Next))
	}
	b.WriteByte('\n')
	for _, g := range v.Gates {
		b.WriteString("  " + g.String() + "\n")
	}
	return b.String()
}

// verdict sums the gates up.
func verdict(gates []Gate, now int64) Verdict {
	v := Verdict{State: Open, Gates: gates}
	for _, g := range gates {
		switch {
		case g.State == Refused:
			v.State = Refused
		case g.State == Waiting && v.State != Refused:
			v.State = Waiting
		}
		for _, t := range [...]int64{g.Until, g.Changes} {
			if t > now && (v.Next == 0 || t < v.Next) {
				v.Next = t
			}
		}
		if (g.State == Open || g.State == Waived) && g.Name != GateClaim && g.Name != GatePin && g.Name != GateDebt && len(v.Evidence) < MaxEvidence {
			text := g.Text
			if g.Environment != "" {
				text = g.Environment + ": " + text
			}
			v.Evidence = append(v.Evidence, Proof{g.Name, Line(text, maxProof)})
		}
	}
	return v
}
