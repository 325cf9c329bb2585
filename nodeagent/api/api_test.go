package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// backend answers as the tests of it ask; what a test does not set is never called.
type backend struct {
	Backend
	status func() (Status, error)
	logs   func(ctx context.Context, o LogOptions, stdout, stderr io.Writer) error
	exec   func(ctx context.Context, o ExecRequest, s Streams) (int, error)
}

func (b backend) Status(context.Context) (Status, error) { return b.status() }

func (b backend) Why(_ context.Context, kind, namespace, name string) (Why, error) {
	if name == "none" {
		return Why{}, fmt.Errorf("%s %s/%s: %w", kind, namespace, name, ErrNotFound)
	}
	return Why{Object: kind + " " + namespace + "/" + name}, nil
}

func (b backend) Manifest(_ context.Context, environment string) ([]byte, error) {
	return []byte("manifest of " + environment), nil
}

func (b backend) Plan(_ context.Context, req PlanRequest) (Plan, error) {
	if req.Environment == "" {
		return Plan{}, errors.New("which environment?")
	}
	return Plan{Environment: req.Environment, To: req.To.Root, From: string(req.Objects[0].Data)}, nil
}

func (b backend) Lacking(_ context.Context, ids []string) ([]string, error) { return ids[1:], nil }

func (b backend) Logs(ctx context.Context, namespace, pod string, o LogOptions, stdout, stderr io.Writer) error {
	if pod == "none" {
		return fmt.Errorf("pod %s/%s: %w", namespace, pod, ErrNotFound)
	}
	return b.logs(ctx, o, stdout, stderr)
}

func (b backend) Exec(ctx context.Context, _, _ string, o ExecRequest, s Streams) (int, error) {
	return b.exec(ctx, o, s)
}

// serve starts a server on a socket of its own and gives a client of it.
func serve(t *testing.T, b Backend) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- NewServer(b, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return NewClient(path)
}

func TestAnswers(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := serve(t, backend{status: func() (Status, error) {
		return Status{Node: "n1", Index: 1 << 60, Pods: []Pod{{Name: "web", Created: at}}}, nil
	}})
	ctx := t.Context()
	s, err := c.Status(ctx)
	if err != nil || s.Node != "n1" || s.Index != 1<<60 || !s.Pods[0].Created.Equal(at) {
		t.Errorf("status: %+v, %v", s, err)
	}
	if w, err := c.Why(ctx, "Pod", "dev", "a/b c?&"); err != nil || w.Object != "Pod dev/a/b c?&" {
		t.Errorf("why: %+v, %v", w, err)
	}
	if b, err := c.Manifest(ctx, "feature/x"); err != nil || string(b) != "manifest of feature/x" {
		t.Errorf("manifest: %s, %v", b, err)
	}
	p, err := c.Plan(ctx, PlanRequest{Environment: "dev", To: &Tree{Root: "r"}, Objects: []GitObject{{"blob", []byte("a\x00b")}}})
	if err != nil || p.To != "r" || p.From != "a\x00b" || p.Environment != "dev" {
		t.Errorf("plan: %+v, %v", p, err)
	}
	for range 3 * plansAtOnce { // a turn is given back
		if _, err := c.Plan(ctx, PlanRequest{}); err == nil || err.Error() != "which environment?" {
			t.Error(err)
		}
	}
	if ids, err := c.Lacking(ctx, []string{"a", "b"}); err != nil || len(ids) != 1 || ids[0] != "b" {
		t.Errorf("lacking: %v, %v", ids, err)
	}
}

func TestRefusals(t *testing.T) {
	c := serve(t, backend{status: func() (Status, error) { return Status{}, errors.New("not yet") }})
	ctx := t.Context()
	_, status := c.Status(ctx)
	_, why := c.Why(ctx, "Pod", "dev", "none")
	_, plan := c.Plan(ctx, PlanRequest{})
	logs := c.Logs(ctx, "dev", "none", LogOptions{Tail: -1}, io.Discard, io.Discard)
	_, exec := c.Exec(ctx, "dev", "web", ExecRequest{}, Streams{Stdout: io.Discard, Stderr: io.Discard})
	for _, tt := range []struct {
		err  error
		want string
	}{
		{status, "not yet"}, {why, "Pod dev/none: not found"}, {plan, "which environment?"}, {logs, "pod dev/none: not found"}, {exec, "no command given"},
	} {
		if tt.err == nil || tt.err.Error() != tt.want {
			t.Errorf("%v, want %s", tt.err, tt.want)
		}
	}
	for _, tt := range []struct{ request, code, body string }{
		{"GET /v1/why?kind=Pod&namespace=dev&name=none", "404", `{"error":"Pod dev/none: not found"}`},
		{"GET /v1/status", "400", `{"error":"not yet"}`},
		{"GET /v1/pods/dev/web/logs?tail=-1", "400", `is not a number of lines`},
		{"GET /v1/pods/dev/web/logs?since=yesterday", "400", `since: `},
		{"GET /v1/nothing", "404", ""},
		{"DELETE /v1/status", "405", ""},
		{"POST /v1/plan", "400", `request: `},
		{"POST /v1/objects/lacking", "400", `request: `},
	} {
		conn, err := c.dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{", tt.request)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if head, _, _ := strings.Cut(string(answer), "\r\n"); !strings.Contains(head, tt.code) || !strings.Contains(string(answer), tt.body) {
			t.Errorf("%s: %s", tt.request, answer)
		}
	}
}

func TestUnreachable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	c := NewClient(path)
	_, err := c.Status(t.Context())
	_, exec := c.Exec(t.Context(), "dev", "web", ExecRequest{Args: []string{"true"}}, Streams{})
	if !errors.Is(err, ErrUnreachable) || !errors.Is(exec, ErrUnreachable) || strings.Contains(err.Error(), "http://") {
		t.Errorf("%v; %v", err, exec)
	}
}

// Profiles of the agent are had over its socket, in the form that `go tool pprof` reads, and one of the CPU at a time.
func TestProfiles(t *testing.T) {
	c := serve(t, backend{})
	get := func(path string) (int, string) {
		resp, err := c.http.Get("http://agent/debug/pprof/" + path)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, string(b)
	}
	const gzip = "\x1f\x8b"
	for _, tt := range []struct {
		path string
		code int
		body string
	}{
		{"heap", 200, gzip},
		{"goroutine?debug=1", 200, "goroutine profile: total "},
		{"allocs?debug=nonsense", 200, gzip},
		{"nothing", 404, `no profile "nothing": expected cpu, heap, allocs, goroutine, block or mutex`},
	} {
		if code, body := get(tt.path); code != tt.code || !strings.HasPrefix(body, tt.body) {
			t.Errorf("%s: %d %.80q, want %d %q", tt.path, code, body, tt.code, tt.body)
		}
	}
	type answer struct {
		code int
		body string
	}
	for try := 0; ; try++ {
		begun, answers := time.Now(), make(chan answer, 2)
		for range 2 {
			go func() {
				code, body := get("cpu?seconds=1")
				answers <- answer{code, body}
			}()
		}
		a, b := <-answers, <-answers
		if a.code == http.StatusOK {
			a, b = b, a
		}
		if a.code == http.StatusOK && try < 5 {
			continue // on a loaded machine one ended before the other began
		}
		if a.code != http.StatusConflict || !strings.Contains(a.body, "cpu profiling already in use") {
			t.Errorf("a second profile of the CPU at the same time: %d %.80q", a.code, a.body)
		}
		if took := time.Since(begun); b.code != http.StatusOK || !strings.HasPrefix(b.body, gzip) || took < time.Second {
			t.Errorf("the CPU was watched for %s: %d %.80q", took, b.code, b.body)
		}
		return
	}
}

// The socket of a dead agent is replaced; that of a living one, and what is no socket, is not.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another agent answers") {
		t.Errorf("beside a living agent: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = Listen(path)
	if err != nil {
		t.Fatal("after a dead agent:", err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("in place of a file: %v", err)
	}
}

func TestLogs(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	big := strings.Repeat("x", 2*maxFrame+1)
	var got LogOptions
	c := serve(t, backend{logs: func(_ context.Context, o LogOptions, stdout, stderr io.Writer) error {
		got = o
		fmt.Fprintln(stdout, "out")
		fmt.Fprintln(stderr, "err")
		fmt.Fprint(stdout, big)
		if o.Previous {
			return errors.New("the rest is gone")
		}
		return nil
	}})
	asked := LogOptions{Container: "app", Follow: true, Timestamps: true, Tail: 0, Since: since}
	var out, err bytes.Buffer
	if e := c.Logs(t.Context(), "dev", "web", asked, &out, &err); e != nil || out.String() != "out\n"+big || err.String() != "err\n" {
		t.Errorf("%v, %d bytes, %q", e, out.Len(), err.String())
	}
	if got != asked {
		t.Errorf("asked for %+v, arrived %+v", asked, got)
	}
	if e := c.Logs(t.Context(), "dev", "web", LogOptions{Previous: true, Tail: -1}, io.Discard, io.Discard); e == nil || e.Error() != "the rest is gone" {
		t.Errorf("an error in the midst of a log: %v", e)
	}
	if got.Tail != -1 {
		t.Errorf("tail %d, want all", got.Tail)
	}
}

func TestExec(t *testing.T) {
	sizes := make(chan Size, 1)
	c := serve(t, backend{exec: func(_ context.Context, o ExecRequest, s Streams) (int, error) {
		switch o.Args[0] {
		case "fail":
			return 0, errors.New("no such program")
		case "nothing":
			if s.Stdin != nil {
				return 1, nil
			}
			return 0, nil
		case "size":
			fmt.Fprint(s.Stdout, <-s.Resize)
			sizes <- Size{80, 25} // not before: the newest size is the one that counts
			fmt.Fprint(s.Stdout, <-s.Resize)
			return 0, nil
		}
		n, err := io.Copy(s.Stdout, s.Stdin)
		fmt.Fprintf(s.Stderr, "%s: %d bytes", o.Args[0], n)
		return 42, err
	}})
	exec := func(stdin io.Reader, resize <-chan Size, req ExecRequest) string {
		var out, errs bytes.Buffer
		code, err := c.Exec(t.Context(), "dev", "web", req, Streams{Stdin: stdin, Stdout: &out, Stderr: &errs, Resize: resize})
		if out.Len() > 100 {
			return fmt.Sprintf("%d %v %d %s", code, err, out.Len(), &errs)
		}
		return fmt.Sprintf("%d %v %s %s", code, err, &out, &errs)
	}
	for _, tt := range []struct{ got, want string }{
		{exec(strings.NewReader("hello"), nil, ExecRequest{Args: []string{"cat"}}), "42 <nil> hello cat: 5 bytes"},
		{exec(strings.NewReader(strings.Repeat("x", 3*maxFrame)), nil, ExecRequest{Args: []string{"cat"}}), "42 <nil> 786432 cat: 786432 bytes"},
		{exec(strings.NewReader(""), nil, ExecRequest{Args: []string{"cat"}}), "42 <nil>  cat: 0 bytes"},
		{exec(nil, nil, ExecRequest{Args: []string{"nothing"}}), "0 <nil>  "},
		{exec(nil, nil, ExecRequest{Args: []string{"fail"}}), "0 no such program  "},
		{exec(nil, sizes, ExecRequest{Args: []string{"size"}, Size: Size{1, 2}}), "0 <nil> {1 2}{80 25} "},
	} {
		if tt.got != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}

// A client that vanishes ends its command: also one that has sent more than the command reads.
func TestExecClientVanishes(t *testing.T) {
	for name, stdin := range map[string]io.Reader{"no input": nil, "input nobody reads": strings.NewReader("x")} {
		t.Run(name, func(t *testing.T) {
			begun, over := make(chan bool), make(chan error, 1)
			c := serve(t, backend{exec: func(ctx context.Context, _ ExecRequest, _ Streams) (int, error) {
				close(begun)
				select {
				case <-ctx.Done():
					over <- nil
				case <-time.After(10 * time.Second):
					over <- errors.New("the command went on")
				}
				return 0, nil
			}})
			ctx, cancel := context.WithCancel(t.Context())
			left := make(chan error)
			go func() {
				_, err := c.Exec(ctx, "dev", "web", ExecRequest{Args: []string{"sleep"}}, Streams{Stdin: stdin, Stdout: io.Discard, Stderr: io.Discard})
				left <- err
			}()
			<-begun
			time.Sleep(50 * time.Millisecond) // for the input to arrive
			cancel()
			if err := <-left; err == nil {
				t.Error("a command that was left is no success")
			}
			if err := <-over; err != nil {
				t.Error(err)
			}
		})
	}
}

// An agent that dies while a command runs has told no exit status, and 0 would be a lie.
func TestExecAgentDies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shoal-exec\r\n\r\n")
		conn.Close()
	}()
	if code, err := NewClient(path).Exec(t.Context(), "dev", "web", ExecRequest{Args: []string{"true"}}, Streams{Stdout: io.Discard, Stderr: io.Discard}); err == nil {
		t.Errorf("exit %d and no error", code)
	}
}

func TestReadFrame(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "EOF"},
		{"\x01\x00\x00", "unexpected EOF"},
		{"\x01\x00\x00\x00\x02", "unexpected EOF"},
		{"\x01\x00\x00\x00\x02a", "unexpected EOF"},
		{"\x01\x00\x04\x00\x01", "frame of 262145 bytes, at most 262144 are allowed"},
		{"\x01\xff\xff\xff\xff", "frame of 4294967295 bytes, at most 262144 are allowed"},
		{"\x02\x00\x00\x00\x02ab", "2 ab"},
		{"\x06\x00\x00\x00\x00", "6 "},
	} {
		channel, data, err := readFrame(strings.NewReader(tt.in))
		got := fmt.Sprintf("%d %s", channel, data)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s", tt.in, got, tt.want)
		}
	}
}

// FuzzFrames reads any bytes as frames; what was read is written as the same bytes.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x02ab\x06\x00\x00\x00\x00"))
	f.Add([]byte("\x01\x00\x04\x00\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var again bytes.Buffer
		out := &frameWriter{w: &again}
		for {
			channel, data, err := readFrame(r)
			if err != nil {
				break
			}
			if _, err := out.channel(channel).Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(in, again.Bytes()) {
			t.Errorf("%q was written as %q", in, again.Bytes())
		}
		_, _ = demux(bytes.NewReader(in), io.Discard, io.Discard)
	})
}
