package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/shoal-dev/shoal/engine/place"
)

// Handle registers what this node does for others, by a pattern of http.ServeMux. Paths below /peers/ are taken.
func (p *Peers) Handle(pattern string, h http.Handler) { p.mux.Handle(pattern, h) }

// From is the node that sent a request to a handler of Handle.
func From(r *http.Request) place.NodeID {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || len(r.TLS.PeerCertificates[0].URIs) != 1 {
		return ""
	}
	node, err := nodeIn(r.TLS.PeerCertificates[0], r.TLS.PeerCertificates[0].URIs[0].Host) // the ring was compared in the handshake
	if err != nil {
		return ""
	}
	return node
}

// maxStreams is how many requests one node may have under way here; further ones wait at that node.
const maxStreams = 1000

func (p *Peers) newServer() *http.Server {
	var only http.Protocols
	only.SetHTTP2(true)
	return &http.Server{
		Handler:           http.HandlerFunc(p.serve),
		Protocols:         &only,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second, WriteByteTimeout: 10 * time.Second},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * idleTime, // the caller closes first
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(quietLog{p.opt.Log}, "", 0),
	}
}

// serve asks again who calls, since a connection outlives many changes of the ledger.
func (p *Peers) serve(w http.ResponseWriter, r *http.Request) {
	if node := From(r); !p.Known(node) {
		http.Error(w, (&UnknownError{Node: node}).Error(), http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, p.opt.MaxBody)
	p.mux.ServeHTTP(w, r)
}

func (p *Peers) serveHTTP() {
	err := p.server.Serve(httpListener{p.incoming, p.listener.Addr()})
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		p.opt.Log.Error("peers are no longer served", "err", err)
	}
}

type httpListener struct {
	*handoff
	addr net.Addr
}

func (l httpListener) Close() error   { l.close(); return nil }
func (l httpListener) Addr() net.Addr { return l.addr }

// quietLog takes the lines of net/http: connections that ended badly, of interest to who looks for a fault.
type quietLog struct{ log *slog.Logger }

func (l quietLog) Write(line []byte) (int, error) {
	l.log.Debug("peer connection", "err", string(line))
	return len(line), nil
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b) //nolint:errcheck // the caller is gone then
}

// ask reads the JSON body of a request, of at most limit bytes.
func ask(r *http.Request, limit int64, v any) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > limit {
		return fmt.Errorf("the request has more than %d bytes", limit)
	}
	return json.Unmarshal(b, v)
}
