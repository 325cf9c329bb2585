package probes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// ask makes one attempt at a probe written in YAML against a port that is named "web".
func ask(t *testing.T, handler string, port int, timeout time.Duration) string {
	t.Helper()
	c := spec(t, fmt.Sprintf("{ports: [{name: web, containerPort: %d}], readinessProbe: %s}", port, strings.ReplaceAll(handler, "PORT", strconv.Itoa(port))))
	l := &loop{Prober: New(Options{})}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	text, err := l.ask(ctx, &probe{spec: c.ReadinessProbe}, Target{IP: netip.MustParseAddr("127.0.0.1"), Container: c})
	if err != nil {
		return "error " + err.Error()
	}
	return text
}

func TestAskHTTP(t *testing.T) {
	var server *httptest.Server
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/not", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "in a bad way", http.StatusInternalServerError)
	})
	mux.HandleFunc("/here", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok?x=1", http.StatusFound) })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		if got := r.Host + " " + r.Header.Get("X-Probe") + " " + r.UserAgent() + " " + r.URL.RawQuery; got != "shop.example yes kube-probe/1.37 (shoal) a=b" {
			http.Error(w, got, http.StatusBadRequest)
		}
	})
	server = httptest.NewServer(mux)
	defer server.Close()
	port := portOf(t, server.URL)
	for _, c := range []struct{ probe, want string }{
		{"{httpGet: {path: /ok, port: PORT}}", ""},
		{"{httpGet: {path: ok, port: web}}", ""},
		{"{httpGet: {path: /here, port: web}}", ""},
		{"{httpGet: {path: /not, port: web}}", "HTTP 500 Internal Server Error: in a bad way\n"},
		{"{httpGet: {path: /ok, port: nope}}", `the container has no port "nope"`},
		{"{httpGet: {path: '/headers?a=b', port: web, httpHeaders: [{name: host, value: shop.example}, {name: X-Probe, value: 'yes'}]}}", ""},
		{"{tcpSocket: {port: web}}", ""},
		{"{}", "error the probe names no action"},
	} {
		if got := ask(t, c.probe, port, 5*time.Second); got != c.want {
			t.Errorf("%s: got %q, want %q", c.probe, got, c.want)
		}
	}
	server.Close()
	for _, probe := range []string{"{httpGet: {path: /ok, port: PORT}}", "{tcpSocket: {port: web}}", "{grpc: {port: PORT}}"} {
		if got := ask(t, probe, port, 5*time.Second); !strings.Contains(got, "connection refused") {
			t.Errorf("%s: got %q", probe, got)
		}
	}
}

func TestAskHTTPSWithAnyCertificate(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	if got := ask(t, "{httpGet: {port: web, scheme: HTTPS}}", portOf(t, server.URL), 5*time.Second); got != "" {
		t.Error(got)
	}
}

// TestFault_C16: an endpoint that hangs, answers without end, or sends elsewhere costs its time-out and 10 KiB.
func TestFault_C16(t *testing.T) {
	var sent int
	mux := http.NewServeMux()
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 64<<10)
		for range 160 { // 10 MiB
			n, err := w.Write(block)
			sent += n
			if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	server := httptest.NewServer(mux)
	port := portOf(t, server.URL)
	for _, c := range []struct{ path, want string }{
		{"/hang", "context deadline exceeded"},
		{"/big", ""},
		{"/away", errOtherHost.Error()},
		{"/round", "it redirects for ever"},
	} {
		timeout := 5 * time.Second
		if c.path == "/hang" {
			timeout = 300 * time.Millisecond
		}
		got := ask(t, "{httpGet: {path: "+c.path+", port: web}}", port, timeout)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.path, got, c.want)
		}
	}
	server.Close() // waits for the handlers
	if sent == 160*64<<10 {
		t.Error("all of the 10 MiB were taken")
	}
}

func TestAskGRPC(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	states := health.NewServer()
	states.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, states)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	port := listener.Addr().(*net.TCPAddr).Port
	for _, c := range []struct{ probe, want string }{
		{"{grpc: {port: PORT}}", ""},
		{"{grpc: {port: PORT, service: shop}}", `the service "shop" is NOT_SERVING`},
		{"{grpc: {port: PORT, service: none}}", fmt.Sprintf(`the server at 127.0.0.1:%d does not know the service "none"`, port)},
	} {
		if got := ask(t, c.probe, port, 5*time.Second); got != c.want {
			t.Errorf("%s: got %q, want %q", c.probe, got, c.want)
		}
	}
}

// TestReadyWithinMilliseconds: a server that listens 40 ms after its start is ready long before its period.
func TestReadyWithinMilliseconds(t *testing.T) {
	reserve, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := reserve.Addr().String()
	reserve.Close()
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Second}
	defer server.Close()
	time.AfterFunc(40*time.Millisecond, func() {
		if l, err := net.Listen("tcp", address); err == nil {
			_ = server.Serve(l)
		}
	})
	p := New(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	start := time.Now()
	p.Set(map[Key]Target{web: {
		ID: "i1", Started: start, IP: netip.MustParseAddr("127.0.0.1"),
		Container: spec(t, "readinessProbe: {httpGet: {port: "+address[strings.LastIndexByte(address, ':')+1:]+"}, periodSeconds: 30}"),
	}})
	for !p.Results()[web].Ready {
		select {
		case <-p.Events():
		case <-time.After(10 * time.Second):
			t.Fatal("not ready")
		}
	}
	t.Logf("ready %v after its start", time.Since(start).Round(time.Millisecond))
	cancel()
	<-ended
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return n
}
