package probes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxBody is how much of an answer is read, in bytes.
const maxBody = 10 << 10

// agent is the user agent: applications tell probes by its beginning.
const agent = "kube-probe/1.37 (shoal)"

var transport = &http.Transport{
	DialContext:            dialer.DialContext,
	TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, // as in Kubernetes: it asks for health, not for who answers
	DisableKeepAlives:      true,
	DisableCompression:     true,
	MaxResponseHeaderBytes: 64 << 10,
}

var client = &http.Client{Transport: transport, CheckRedirect: sameHost}

var errOtherHost = errors.New("it redirects to another host")

// sameHost follows redirects within the host, ten at most.
func sameHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return errOtherHost
	}
	if len(via) >= 10 {
		return errors.New("it redirects for ever")
	}
	return nil
}

// askHTTP succeeds on an answer from 200 to 399.
func askHTTP(ctx context.Context, what *corev1.HTTPGetAction, ip netip.Addr, port string) string {
	resp, err := get(ctx, what, ip, port, agent)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil && len(body) == 0 {
		return fmt.Sprintf("read the answer: %v", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Sprintf("HTTP %s: %s", resp.Status, body)
	}
	return ""
}

// get sends the request that an action describes, to the container's address where it names no host.
func get(ctx context.Context, what *corev1.HTTPGetAction, ip netip.Addr, port, agent string) (*http.Response, error) {
	host := what.Host
	if host == "" {
		host = ip.String()
	}
	target, err := url.Parse(what.Path)
	if err != nil {
		target = &url.URL{Path: what.Path}
	}
	if !strings.HasPrefix(target.Path, "/") {
		target.Path = "/" + target.Path
	}
	target.Scheme, target.User, target.Host = "http", nil, net.JoinHostPort(host, port)
	if what.Scheme == corev1.URISchemeHTTPS {
		target.Scheme = "https"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "*/*")
	for _, h := range what.HTTPHeaders {
		switch http.CanonicalHeaderKey(h.Name) {
		case "Host":
			req.Host = h.Value
		case "User-Agent", "Accept":
			req.Header.Set(h.Name, h.Value)
		default:
			req.Header.Add(h.Name, h.Value)
		}
	}
	return client.Do(req)
}
