package peers

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
)

const whichPath = "/peers/which"

// handleWhich says which run of an agent this is.
func (p *Peers) handleWhich(w http.ResponseWriter, _ *http.Request) { answer(w, p.run) }

// Twin tells whether another machine at an address is this node as well: it proves so by this node's own key, and is not
// this very one, to which somebody leads us back. Nobody there, or somebody else, is no twin.
func (p *Peers) Twin(ctx context.Context, at netip.AddrPort) bool {
	ctx, cancel := context.WithTimeout(ctx, shakeTime)
	defer cancel()
	var only http.Protocols
	only.SetHTTP2(true)
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTime}
			c, err := d.DialContext(ctx, "tcp", at.String())
			if err != nil {
				return nil, err
			}
			conn := tls.Client(c, p.clientConfig(protoHTTP, p.self))
			if err := conn.HandshakeContext(ctx); err != nil {
				c.Close()
				return nil, err
			}
			return conn, nil
		},
		Protocols: &only, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://node"+whichPath, nil)
	if err != nil {
		return false
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 256))
	return err == nil && resp.StatusCode == http.StatusOK && string(b) != fmt.Sprintf("%q", p.run)
}
