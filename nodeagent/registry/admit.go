package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"cuelabs.dev/go/oci/ociregistry"
)

// admit says whether the request may go on, and answers it if not.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	if s.opt.Inside {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			refuse(w, ociregistry.ErrDenied, "this is for reading alone")
			return false
		}
		return true
	}
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		refuse(w, ociregistry.ErrDenied, "requests of web pages are not served")
		return false
	}
	if s.opt.Token == "" {
		if !isLoopback(r.RemoteAddr) || !localHost(r.Host) {
			refuse(w, ociregistry.ErrDenied, "without a token this registry answers loopback addresses alone")
			return false
		}
		return true
	}
	_, given, _ := r.BasicAuth()
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		given = bearer
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.opt.Token))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="shoal"`)
		refuse(w, ociregistry.ErrUnauthorized, "the token is missing or wrong: give it as password, or as bearer")
		return false
	}
	return true
}

func refuse(w http.ResponseWriter, is ociregistry.Error, text string) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	_ = ociregistry.WriteError(w, ociregistry.NewError(text, is.Code(), nil))
}

func isLoopback(hostport string) bool {
	a, err := netip.ParseAddrPort(hostport)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// localHost says whether a Host header names this machine's loopback.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.Unmap().IsLoopback()
}
