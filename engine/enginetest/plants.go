package enginetest

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/shoal-dev/shoal/engine/cluster"
)

// The bugs that can be planted in a World.
const (
	EagerGrant       Plant = "the leader acknowledges a renewal while the end of the lease is on its way"
	NoVerify         Plant = "the leader acknowledges without asking whether it still leads"
	NotWhole         Plant = "a new leader does not begin all leases whole"
	LateCount        Plant = "a node counts its lease from when the answer came"
	NoGuard          Plant = "the guard does not kill"
	StartAtOnce      Plant = "a node whose lease had ended starts before it has applied what was taken from it"
	Forgetful        Plant = "an agent that starts again takes its lease for one under which it may start anything"
	BlindStart       Plant = "what was decided under the lease is started after its end"
	NoProof          Plant = "the ledger is told that a lease is over as soon as a node is lost"
	LastWords        Plant = "what a leader decided counts when it is one no more"
	Minority         Plant = "the leader activates what it alone has rendered"
	EarlyAcknowledge Plant = "the leader takes for committed what it alone has"
	NoSync           Plant = "a voter answers before its disk has the entries"
	NoDedupe         Plant = "inputs are not numbered, so one that is sent again is taken again"
	OddStep          Plant = "one node steps to another State"
	Quitter          Plant = "a node that hears of no majority stops all it runs"
	Deafness         Plant = "agents do not stop what is to stop"
	EarlyGone        Plant = "agents report a pod as gone while it still runs"
	Leftovers        Plant = "agents report a stateless pod as gone and let it run"
	Chatty           Plant = "agents report what has not changed, without an end"
	Amnesia          Plant = "what a schedule has started is known to the leader alone"
)

// amnesia has a State forget which runs of its CronJobs have been, as if only the leader before had known.
func amnesia(s *cluster.State) (*cluster.State, error) {
	var b bytes.Buffer
	if err := s.Encode(&b); err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.SplitSeq(strings.TrimSpace(b.String()), "\n") {
		var row struct {
			T string          `json:"t"`
			V uint64          `json:"v"`
			R json.RawMessage `json:"r"`
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			return nil, err
		}
		var record map[string]any
		if row.T == "jobs" || row.T == "cronjobs" || row.T == "wakes" {
			if err := json.Unmarshal(row.R, &record); err != nil {
				return nil, err
			}
		}
		key, _ := record["key"].(map[string]any)
		owner, _ := record["owner"].(map[string]any)
		switch {
		case row.T == "jobs" && owner["uid"] != "":
			continue
		case row.T == "cronjobs":
			delete(record, "last")
		case row.T == "wakes" && key["kind"] == "CronJob":
			record["at"] = 1
		default:
			out = append(out, line)
			continue
		}
		var err error
		if row.R, err = json.Marshal(record); err != nil {
			return nil, err
		}
		changed, err := json.Marshal(row)
		if err != nil {
			return nil, err
		}
		out = append(out, string(changed))
	}
	text := strings.Join(out, "\n")
	_, err := cluster.DecodeState(strings.NewReader(text))
	if err == nil {
		return s, nil // it had started none
	}
	_, is, _ := strings.Cut(err.Error(), "have hash ")
	is, was, _ := strings.Cut(is, ", the head says ")
	return cluster.DecodeState(strings.NewReader(strings.Replace(text, was, is, 1)))
}
