package githost

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/engine/source"
)

// ask is what a fetch says in one request.
type ask struct {
	want, shallow, have []source.ID
	depth               int
	done                bool
	ended               bool // nothing follows the wants: the client asks where its history would end
	detailed            bool // multi_ack_detailed
	noDone, sideband    bool
}

// readAsk reads a whole request of a fetch: wants and where the client's history ends, then haves.
func readAsk(p *pktReader, l Limits) (a ask, err error) {
	for first := true; ; first = false {
		line, flush, err := p.next()
		if err != nil {
			return a, err
		}
		if flush {
			break
		}
		key, value, _ := strings.Cut(string(line), " ")
		switch key {
		case "want":
			id, caps, _ := strings.Cut(value, " ")
			if !source.ID(id).Valid() {
				return a, fmt.Errorf("%w: want %.60q", errProtocol, id)
			}
			a.want = append(a.want, source.ID(id))
			if first {
				words := strings.Fields(caps)
				a.detailed = slices.Contains(words, "multi_ack_detailed")
				a.noDone = slices.Contains(words, "no-done") && a.detailed
				a.sideband = slices.Contains(words, "side-band-64k")
			}
		case "shallow":
			if !source.ID(value).Valid() {
				return a, fmt.Errorf("%w: shallow %.60q", errProtocol, value)
			}
			a.shallow = append(a.shallow, source.ID(value))
		case "deepen":
			if a.depth, err = strconv.Atoi(value); err != nil || a.depth < 1 {
				return a, fmt.Errorf("%w: deepen %.20q", errProtocol, value)
			}
		case "deepen-since", "deepen-not", "filter":
			return a, fmt.Errorf("%s is not offered by this server", key)
		default:
			return a, fmt.Errorf("%w: %.60q in a fetch", errProtocol, key)
		}
		if len(a.want)+len(a.shallow) > l.Haves {
			return a, fmt.Errorf("a fetch that names more than %d objects", l.Haves)
		}
	}
	for first := true; ; first = false {
		line, flush, err := p.next()
		if errors.Is(err, io.EOF) {
			a.ended = first
			return a, nil
		}
		if err != nil {
			return a, err
		}
		if flush {
			continue
		}
		if bytes.Equal(line, []byte("done")) {
			a.done = true
			return a, nil
		}
		id, ok := strings.CutPrefix(string(line), "have ")
		if !ok || !source.ID(id).Valid() {
			return a, fmt.Errorf("%w: %.60q among haves", errProtocol, line)
		}
		if len(a.have) >= l.Haves {
			return a, fmt.Errorf("a fetch that names more than %d objects", l.Haves)
		}
		a.have = append(a.have, source.ID(id))
	}
}

// uploadPack answers a fetch. Over HTTP every request stands alone: the client repeats what was in common.
func (s *Server) uploadPack(q *request) {
	a, err := readAsk(&pktReader{r: bufio.NewReaderSize(q.body, 16<<10)}, s.opt.Limits)
	if err != nil {
		http.Error(q.w, "fetch: "+err.Error(), http.StatusBadRequest)
		return
	}
	if len(a.want) == 0 {
		return
	}
	out := bufio.NewWriterSize(q.out, 64<<10)
	defer out.Flush()
	pkt := &pktWriter{w: out}
	for _, id := range a.want {
		if !s.opt.Repo.Has(id) {
			pkt.linef("ERR upload-pack: not our ref %s\n", id)
			return
		}
	}
	var common []source.ID
	for _, id := range a.have {
		if s.opt.Repo.Has(id) {
			common = append(common, id)
		}
	}
	// With anything in common the walk finds the rest; more rounds would save little.
	ready := a.done || len(common) > 0 && a.noDone
	var ends, goesOn []source.ID
	var send func(io.Writer) error
	if ready || a.depth > 0 {
		ends, goesOn, send, err = s.opt.Repo.Prepare(q.r.Context(), a.want, common, a.shallow, a.depth)
		if err != nil {
			s.opt.Log.WarnContext(q.r.Context(), "fetch failed", "from", q.r.RemoteAddr, "err", err)
			pkt.linef("ERR upload-pack: %s\n", oneLine(err))
			return
		}
	}
	if a.depth > 0 {
		for _, id := range ends {
			if !slices.Contains(a.shallow, id) {
				pkt.linef("shallow %s\n", id)
			}
		}
		for _, id := range goesOn {
			pkt.linef("unshallow %s\n", id)
		}
		pkt.flush()
	}
	if a.ended {
		return
	}
	writeAcks(pkt, a, common, ready)
	if !ready {
		return
	}
	pack := io.Writer(out)
	if a.sideband {
		pack = bufio.NewWriterSize(band{pkt, bandData}, maxPkt-1)
	}
	if err := send(pack); err != nil {
		s.opt.Log.WarnContext(q.r.Context(), "fetch failed", "from", q.r.RemoteAddr, "err", err)
		if a.sideband {
			_, _ = band{pkt, bandFatal}.Write([]byte(oneLine(err)))
		}
		return
	}
	if b, ok := pack.(*bufio.Writer); ok {
		b.Flush()
	}
	if a.sideband {
		pkt.flush()
	}
}

// writeAcks answers the haves.
func writeAcks(pkt *pktWriter, a ask, common []source.ID, ready bool) {
	if !a.detailed {
		if len(common) > 0 {
			pkt.linef("ACK %s\n", common[0])
		} else {
			pkt.line([]byte("NAK\n"))
		}
		return
	}
	for _, id := range common {
		pkt.linef("ACK %s common\n", id)
	}
	if len(common) == 0 {
		pkt.line([]byte("NAK\n"))
		return
	}
	last := common[len(common)-1]
	if !a.done {
		pkt.linef("ACK %s ready\n", last)
		pkt.line([]byte("NAK\n"))
	}
	if ready {
		pkt.linef("ACK %s\n", last)
	}
}
