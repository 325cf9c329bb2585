// Package checks asks the questions that shoal.cue puts to environments before something is promoted out of them: whether a URL answers,
// whether a query to Prometheus gives something. Names of Services are found as pods find them.
//
// A question is asked by one node, whose answer becomes evidence in the ledger. It may not reach what is local to a link, where
// hypervisors hand out credentials; an answer's body is never repeated, but for the number that a query gave.
package checks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/engine/promote"
)

const (
	patience  = 10 * time.Second // of one question
	maxAnswer = 1 << 20          // bytes of an answer that are read
	redirects = 5
)

// Answer is what came of a question.
type Answer struct {
	OK   bool
	Text string // in a line
}

// Asker asks. It is safe for concurrent use.
type Asker struct{ client *http.Client }

// New makes an Asker that asks the ring's name server, "10.43.0.10:53", for names; the zero address: that of the host.
func New(names netip.AddrPort) *Asker {
	resolver := &net.Resolver{}
	if names.IsValid() {
		resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, names.String())
		}}
	}
	dialer := &net.Dialer{Timeout: patience, Resolver: resolver, Control: notLinkLocal}
	return &Asker{client: &http.Client{
		Timeout:   patience,
		Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, Proxy: nil, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > redirects {
				return fmt.Errorf("more than %d redirects", redirects)
			}
			return nil
		},
	}}
}

// notLinkLocal refuses addresses that are local to a link.
func notLinkLocal(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := at.Addr().Unmap(); ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return fmt.Errorf("%s is local to a link, and is not asked", ip)
	}
	return nil
}

// Ask asks one question.
func (a *Asker) Ask(ctx context.Context, c promote.Check) Answer {
	var text string
	var err error
	if c.PromQL != "" {
		text, err = a.query(ctx, c)
	} else {
		text, err = a.get(ctx, c.HTTP)
	}
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // who reads this knows the URL
		}
		return Answer{Text: promote.Line(err.Error(), 300)}
	}
	return Answer{OK: true, Text: promote.Line(text, 300)}
}

func (a *Asker) get(ctx context.Context, at string) (string, error) {
	resp, err := a.do(ctx, at)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return "", fmt.Errorf("answered %s", resp.Status)
	}
	return "answered " + resp.Status, nil
}

func (a *Asker) do(ctx context.Context, at string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "shoal")
	return a.client.Do(req)
}

// query asks Prometheus, by https://prometheus.io/docs/prometheus/latest/querying/api/: a vector or matrix must not be empty, a scalar
// not 0.
func (a *Asker) query(ctx context.Context, c promote.Check) (string, error) {
	resp, err := a.do(ctx, strings.TrimSuffix(c.At, "/")+"/api/v1/query?"+url.Values{"query": {c.PromQL}}.Encode())
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil {
		return "", fmt.Errorf("answered %s, which is not what Prometheus says", resp.Status)
	}
	if answer.Status != "success" {
		return "", fmt.Errorf("the query failed: %s", promote.Line(answer.Error, 200))
	}
	switch answer.Data.ResultType {
	case "scalar":
		var value [2]any
		if err := json.Unmarshal(answer.Data.Result, &value); err != nil {
			return "", errors.New("a scalar that cannot be read")
		}
		if text := fmt.Sprint(value[1]); text != "0" && text != "NaN" {
			return "gives " + text, nil
		}
		return "", fmt.Errorf("gives %v", value[1])
	case "vector", "matrix":
		var series []struct{ Value [2]any }
		if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
			return "", errors.New("an answer that cannot be read")
		}
		if len(series) == 0 {
			return "", errors.New("gives nothing")
		}
		if answer.Data.ResultType == "matrix" || len(series) > 1 {
			return fmt.Sprintf("gives %d series", len(series)), nil
		}
		return fmt.Sprintf("gives %v", series[0].Value[1]), nil
	}
	return "", fmt.Errorf("gives a %s; expected a scalar, a vector or a matrix", promote.Line(answer.Data.ResultType, 40))
}
