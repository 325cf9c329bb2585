package githost_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/storage/memory"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/githost"
)

// pushBody is a push of a pack that holds raw objects, as a client sends it.
func pushBody(t testing.TB, old, tip source.ID, objects map[string][][]byte) []byte {
	t.Helper()
	store := memory.NewStorage()
	var ids []plumbing.Hash
	for _, kind := range []string{"blob", "tree", "commit"} {
		for _, raw := range objects[kind] {
			o := store.NewEncodedObject()
			typ, err := plumbing.ParseObjectType(kind)
			if err != nil {
				t.Fatal(err)
			}
			o.SetType(typ)
			w, _ := o.Writer()
			w.Write(raw)
			h, err := store.SetEncodedObject(o)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, h)
		}
	}
	var b bytes.Buffer
	if old == "" {
		old = source.ID(strings.Repeat("0", 40))
	}
	line := fmt.Sprintf("%s %s refs/heads/main\x00report-status side-band-64k", old, tip)
	fmt.Fprintf(&b, "%04x%s0000", len(line)+4, line)
	if _, err := packfile.NewEncoder(&b, store, false).Encode(ids, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func post(t testing.TB, url string, body []byte) string {
	t.Helper()
	answer, err := http.Post(url+"/git-receive-pack", "application/x-git-receive-pack-request", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", answer.StatusCode, err, b)
	}
	return string(b)
}

// BenchmarkPush pushes commits that change one app of 1,000, and measures from the request sent to Pushed called
// and from there to a checked tree. What is left of an op is the client.
func BenchmarkPush(b *testing.B) {
	var hook time.Time
	h := serve(b, githost.Options{Pushed: func(context.Context, []source.RefUpdate, io.Writer) { hook = time.Now() }})
	var app [1000][]source.Item
	var apps []source.Item
	all := map[string][][]byte{}
	set := func(i, version int) (blob, tree []byte) {
		blob = fmt.Appendf(nil, "package web\napp: web: replicas: %d\n", version*1000+i)
		app[i] = []source.Item{{Name: "web.cue", ID: source.ObjectID("blob", blob), Kind: source.File}}
		return blob, source.EncodeTree(app[i])
	}
	for i := range app {
		blob, tree := set(i, 0)
		all["blob"], all["tree"] = append(all["blob"], blob), append(all["tree"], tree)
		apps = append(apps, source.Item{Name: fmt.Sprintf("app%04d", i), ID: source.ObjectID("tree", tree), Kind: source.Dir})
	}
	finish := func(parent source.ID, objects map[string][][]byte) source.ID {
		tree := source.EncodeTree(apps)
		root := source.EncodeTree([]source.Item{{Name: "apps", ID: source.ObjectID("tree", tree), Kind: source.Dir}})
		c := source.Commit{Tree: source.ObjectID("tree", root), Message: "change\n"}
		if parent != "" {
			c.Parents = []source.ID{parent}
		}
		raw := source.EncodeCommit(c)
		objects["tree"] = append(objects["tree"], tree, root)
		objects["commit"] = [][]byte{raw}
		return source.ObjectID("commit", raw)
	}
	tip := finish("", all)
	post(b, h.url, pushBody(b, "", tip, all))
	if _, err := h.Tree(b.Context(), tip); err != nil {
		b.Fatal(err)
	}
	var toHook, toTree time.Duration
	version := 0
	for b.Loop() {
		b.StopTimer()
		version++
		i := version * 7 % len(app)
		objects := map[string][][]byte{}
		blob, tree := set(i, version)
		objects["blob"], objects["tree"] = [][]byte{blob}, [][]byte{tree}
		apps[i].ID = source.ObjectID("tree", tree)
		next := finish(tip, objects)
		body := pushBody(b, tip, next, objects)
		tip = next
		b.StartTimer()
		start := time.Now()
		post(b, h.url, body)
		toHook += hook.Sub(start)
		start = time.Now()
		if _, err := h.Tree(b.Context(), tip); err != nil {
			b.Fatal(err)
		}
		toTree += time.Since(start)
	}
	b.ReportMetric(float64(toHook.Microseconds())/float64(b.N), "us-to-hook/op")
	b.ReportMetric(float64(toTree.Microseconds())/float64(b.N), "us-tree/op")
}
