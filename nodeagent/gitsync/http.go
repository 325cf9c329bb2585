package gitsync

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/nodeagent/gitsync/internal/bare"
)

// httpRemote speaks smart HTTP, protocol version 0.
type httpRemote struct {
	what   service
	base   *url.URL // without credentials; after a redirect within the host, where that led
	user   *url.Userinfo
	auth   Auth
	client *http.Client
	caps   map[string]bool
}

// newHTTPClient makes the one client of a mirror: connections are kept between polls.
func newHTTPClient(auth Auth) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(auth.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(auth.CA) {
			return nil, errors.New("auth: CA holds no PEM certificate")
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        config,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  60 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        2 * time.Minute,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: sameOrigin,
	}, nil
}

// sameOrigin follows a redirect only to the scheme, host and port of the request before it. Go's client would leave
// credentials out towards another host, but a host that answers for another is nobody we were told to trust.
func sameOrigin(next *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	switch {
	case len(via) >= 5:
		return errors.New("more than 5 redirects")
	case next.URL.Scheme != from.Scheme:
		return fmt.Errorf("redirect from %s to %s refused: another scheme", from.Scheme, next.URL.Scheme)
	case next.URL.Host != from.Host:
		return fmt.Errorf("redirect to another host refused: %s; if it is right, use it as the URL", next.URL.Host)
	case next.Method != http.MethodGet:
		return errors.New("redirect of a POST refused")
	}
	return nil
}

func (h *httpRemote) Advertised(ctx context.Context) (*advert, error) {
	u := *h.base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/info/refs"
	u.RawQuery = "service=" + h.what.program()
	answer, err := h.do(ctx, http.MethodGet, &u, nil)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if got := answer.Header.Get("Content-Type"); got != "application/x-"+h.what.program()+"-advertisement" {
		return nil, &answerError{fmt.Errorf("the answer is %.80q, not of a Git server with smart HTTP", got)}
	}
	if path, ok := strings.CutSuffix(answer.Request.URL.Path, "/info/refs"); ok {
		h.base.Path = path // the repository moved within its host
	}
	a, err := readAdvert(answer.Body, true)
	if err != nil {
		return nil, err
	}
	h.caps = a.caps
	return a, nil
}

func (h *httpRemote) Fetch(ctx context.Context, ask bare.Ask) (*delivery, error) {
	u := *h.base
	u.Path = strings.TrimSuffix(u.Path, "/") + "/git-upload-pack"
	answer, err := h.do(ctx, http.MethodPost, &u, strings.NewReader(encodeAsk(ask, h.caps))) //nolint:bodyclose // the delivery closes it
	if err != nil {
		return nil, err
	}
	d, err := readDelivery(answer.Body, ask, h.caps)
	if err != nil {
		answer.Body.Close()
		return nil, err
	}
	d.close = func() { answer.Body.Close() }
	return d, nil
}

func (h *httpRemote) Push(ctx context.Context, u bare.Move, commit []byte) error {
	body, err := encodePush(u, commit, h.caps)
	if err != nil {
		return err
	}
	at := *h.base
	at.Path = strings.TrimSuffix(at.Path, "/") + "/git-receive-pack"
	answer, err := h.do(ctx, http.MethodPost, &at, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return readReport(answer.Body, u.Name, h.caps)
}

func (h *httpRemote) Close() {}

// do sends one request and returns an answer of status 200.
func (h *httpRemote) do(ctx context.Context, method string, u *url.URL, body io.Reader) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	q.Header.Set("User-Agent", "shoal")
	if method == http.MethodPost {
		q.Header.Set("Content-Type", "application/x-"+h.what.program()+"-request")
		q.Header.Set("Accept", "application/x-"+h.what.program()+"-result")
	}
	switch password, set := h.user.Password(); {
	case h.auth.Token != "" && h.auth.User == "" && h.auth.Bearer:
		q.Header.Set("Authorization", "Bearer "+h.auth.Token)
	case h.auth.Token != "":
		q.SetBasicAuth(orDefault(h.auth.User, orDefault(h.user.Username(), "git")), h.auth.Token)
	case set:
		q.SetBasicAuth(h.user.Username(), password)
	}
	answer, err := h.client.Do(q)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // its URL is ours; nothing is gained by repeating it
		}
		return nil, err
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, &statusError{code: answer.StatusCode, after: retryAfter(answer)}
}

// statusError is an answer other than 200.
type statusError struct {
	code  int
	after time.Duration // the host asks not to be asked before; 0 if it does not say
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the host answers %d %s", e.code, http.StatusText(e.code))
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		text += ": check the token"
	case http.StatusNotFound:
		text += ": the repository is not there, or the token may not see it"
	}
	return text
}

// retryAfter reads the header in seconds, to an hour at most.
func retryAfter(r *http.Response) time.Duration {
	d, err := time.ParseDuration(r.Header.Get("Retry-After") + "s")
	if err != nil || d < 0 {
		return 0
	}
	return min(d, time.Hour)
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
