package gitsync

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// parseURL reads a remote's address. "user@host:path" becomes ssh, an absolute path file.
func parseURL(s string) (*url.URL, error) {
	if filepath.IsAbs(s) {
		return &url.URL{Scheme: "file", Path: s}, nil
	}
	if !strings.Contains(s, "://") {
		host, path, ok := strings.Cut(s, ":")
		if !ok || strings.ContainsAny(host, "/ ") || path == "" || path[0] == ':' {
			return nil, fmt.Errorf("url %q: expected https://, ssh://, user@host:path, file:// or an absolute path", redacted(s))
		}
		s = "ssh://" + host + "/" + strings.TrimPrefix(path, "/")
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", redacted(s), errors.Unwrap(err))
	}
	if strings.HasPrefix(u.Host, "-") || strings.ContainsFunc(u.Path, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return nil, fmt.Errorf("url %q: host begins with a dash or path holds a control character", redacted(s))
	}
	switch u.Scheme {
	case "https", "ssh":
		if u.Hostname() == "" {
			return nil, fmt.Errorf("url %q: has no host", redacted(s))
		}
	case "http":
		if !loopback(u.Hostname()) {
			return nil, fmt.Errorf("url %q: http is for loopback only, use https", redacted(s))
		}
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return nil, fmt.Errorf("url %q: expected file:///absolute/path", redacted(s))
		}
	default:
		return nil, fmt.Errorf("url %q: scheme %q is none of https, http, ssh, file", redacted(s), u.Scheme)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// redacted is s without what stands between the scheme and an "@".
func redacted(s string) string {
	head, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = "..." + rest[i:]
	}
	return head + "://" + rest
}
