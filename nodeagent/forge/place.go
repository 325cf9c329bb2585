package forge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Kind is a kind of forge; "" is one that is not known yet.
type Kind string

// The kinds. GitHub includes GitHub Enterprise. Forgejo speaks as Gitea does.
const (
	GitHub  Kind = "github"
	GitLab  Kind = "gitlab"
	Gitea   Kind = "gitea"
	Forgejo Kind = "forgejo"
)

// Place is where a repository lies on a forge.
type Place struct {
	Kind  Kind   // "" if the host's name does not tell: Probe finds it
	Host  string // lower case; with a port if the remote's http or https address had one
	Path  string // "owner/name", on GitLab "group/subgroup/name"
	Base  string // address of the API without a slash at its end; "" as long as Kind is
	Plain bool   // the remote was given with http
}

// Options are those of a Client for this place.
func (p Place) Options(token string) Options {
	return Options{Kind: p.Kind, Base: p.Base, Path: p.Path, Plain: p.Plain, Token: token}
}

const (
	maxRemote = 2048 // bytes of a remote
	maxParts  = 22   // parts of a path: GitLab nests 20 groups
	maxPart   = 255
)

// wellKnown are hosts whose kind is known by name.
var wellKnown = map[string]struct {
	kind Kind
	base string
}{
	"github.com":   {GitHub, "https://api.github.com"},
	"gitlab.com":   {GitLab, "https://gitlab.com/api/v4"},
	"codeberg.org": {Forgejo, "https://codeberg.org/api/v1"},
	"gitea.com":    {Gitea, "https://gitea.com/api/v1"},
}

// alias are names under which well-known hosts serve Git beside their own.
var alias = map[string]string{
	"www.github.com":    "github.com",
	"ssh.github.com":    "github.com",
	"altssh.gitlab.com": "gitlab.com",
}

// Locate finds the place of a Git remote: an https, http or ssh address, or the short form of ssh (git@host:path).
// The port of ssh says nothing of the web server and is dropped. No error repeats the remote, which may hold a
// password.
func Locate(remote string) (Place, error) {
	scheme, host, path, err := split(remote)
	if err != nil {
		return Place{}, fmt.Errorf("locate the forge: %w", err)
	}
	p := Place{Host: strings.TrimSuffix(strings.ToLower(host), "."), Plain: scheme == "http"}
	if p.Path, err = cleanPath(path); err != nil {
		return Place{}, fmt.Errorf("locate the forge: %w", err)
	}
	if err := checkHost(p.Host); err != nil {
		return Place{}, fmt.Errorf("locate the forge: %w", err)
	}
	name := p.Host
	if h, _, err := net.SplitHostPort(p.Host); err == nil {
		name = h
	}
	if own, ok := alias[name]; ok {
		name = own
	}
	switch known, ok := wellKnown[name]; {
	case ok:
		p.Kind, p.Base, p.Host, p.Plain = known.kind, known.base, name, false
	case strings.HasSuffix(name, ".ghe.com"):
		p.Kind, p.Base, p.Host, p.Plain = GitHub, "https://api."+name, name, false
	}
	if err := checkPath(p.Kind, p.Path); err != nil {
		return Place{}, fmt.Errorf("locate the forge: %w", err)
	}
	return p, nil
}

// split takes a remote apart. The host keeps its port for http and https alone.
func split(remote string) (scheme, host, path string, err error) {
	if remote == "" || len(remote) > maxRemote {
		return "", "", "", fmt.Errorf("expected a remote of 1 to %d bytes, got %d", maxRemote, len(remote))
	}
	for i := range len(remote) {
		if remote[i] <= ' ' || remote[i] >= 0x7f || remote[i] == '\\' {
			return "", "", "", errors.New("expected a remote of printable ASCII without spaces or backslashes")
		}
	}
	if strings.Contains(remote, "://") {
		u, err := url.Parse(remote)
		if err != nil { // its text repeats the remote
			return "", "", "", errors.New("expected an https, http or ssh address")
		}
		if u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
			return "", "", "", errors.New("expected an address without query and fragment")
		}
		switch u.Scheme {
		case "https", "http":
			return u.Scheme, webHost(u), u.Path, nil
		case "ssh", "git+ssh", "ssh+git":
			return "ssh", bracket(u.Hostname()), u.Path, nil
		}
		return "", "", "", errors.New("expected an https, http or ssh address")
	}
	at := strings.LastIndexByte(beforePath(remote), '@')
	rest := remote[at+1:]
	if strings.HasPrefix(rest, "[") { // an address of IPv6
		end := strings.Index(rest, "]:")
		if end < 0 {
			return "", "", "", errors.New("expected [address]:path")
		}
		return "ssh", rest[:end+1], rest[end+2:], nil
	}
	host, path, ok := strings.Cut(rest, ":")
	if !ok || host == "" || strings.Contains(host, "/") {
		return "", "", "", errors.New("expected an https, http or ssh address, or user@host:path")
	}
	return "ssh", host, path, nil
}

// beforePath is what of a short remote can hold a user name: all before its first slash.
func beforePath(remote string) string {
	before, _, _ := strings.Cut(remote, "/")
	return before
}

// webHost is the host of a web address, without the port that its scheme implies.
func webHost(u *url.URL) string {
	port := u.Port()
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return bracket(u.Hostname())
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// checkHost says whether host, with or without a port, can be one.
func checkHost(host string) error {
	name, bracketed := host, false
	if h, port, err := net.SplitHostPort(host); err == nil {
		name = h
		if _, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil {
			return errors.New("expected a port of 0 to 65535")
		}
	} else if name, bracketed = strings.CutPrefix(name, "["); bracketed {
		name = strings.TrimSuffix(name, "]")
	}
	if a, err := netip.ParseAddr(name); err == nil {
		if a.Zone() != "" || bracketed && !a.Is6() {
			return errors.New("expected an address of IPv6 in brackets, without a zone")
		}
		return nil
	}
	if name == "" || bracketed || len(name) > 253 {
		return errors.New("expected a host")
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return errors.New("expected a host of letters, digits, hyphens and dots")
		}
	}
	return nil
}

// cleanPath checks the path of a repository and takes off slashes and ".git".
func cleanPath(path string) (string, error) {
	path = strings.Trim(path, "/")
	for strings.HasSuffix(path, ".git") { // no forge lets a name end so
		path = strings.TrimSuffix(path, ".git")
	}
	parts := strings.Split(path, "/")
	if len(parts) < 2 || len(parts) > maxParts {
		return "", fmt.Errorf("expected owner/name, a path of 2 to %d parts", maxParts)
	}
	for _, part := range parts {
		if err := checkPart(part); err != nil {
			return "", err
		}
	}
	return path, nil
}

// checkPart allows what forges allow in names; everything else would need escapes and could mean something in a URL.
func checkPart(part string) error {
	if part == "" || part == "." || part == ".." || len(part) > maxPart {
		return fmt.Errorf("expected parts of a path of 1 to %d characters that are not dots alone", maxPart)
	}
	for i := range len(part) {
		b := part[i]
		if (b < '0' || b > '9') && (b < 'A' || b > 'Z') && (b < 'a' || b > 'z') && b != '-' && b != '_' && b != '.' && b != '+' {
			return errors.New("expected parts of a path of letters, digits, hyphens, underscores, dots and plus signs")
		}
	}
	return nil
}

// checkPath says whether a forge of this kind can have a repository at path.
func checkPath(kind Kind, path string) error {
	if kind != GitLab && kind != "" && strings.Count(path, "/") != 1 {
		return fmt.Errorf("expected owner/name on %s", kind)
	}
	return nil
}

// loopback says whether a host, with or without a port, is this machine by its name.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
