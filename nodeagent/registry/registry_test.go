package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/content/proxy"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/services/content/contentserver"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// fixture is a registry over containerd's own content store and metadata, as the daemon has them.
type fixture struct {
	t      testing.TB
	ctx    context.Context // in the namespace
	db     *metadata.DB
	images images.Store
	server *Server
	web    *httptest.Server
	host   string // 127.0.0.1:port

	mu       sync.Mutex
	requests []string
}

func open(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	dir := t.TempDir()
	store, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	bdb, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bdb.Close() })
	f := &fixture{t: t, ctx: namespaces.WithNamespace(context.Background(), "shoal-test"), db: metadata.NewDB(bdb, store, nil)}
	if err := f.db.Init(f.ctx); err != nil {
		t.Fatal(err)
	}
	f.images = metadata.NewImageStore(f.db)
	f.start(change...)
	return f
}

func (f *fixture) start(change ...func(*Options)) {
	f.t.Helper()
	opt := Options{Content: f.db.ContentStore(), Images: f.images, Leases: metadata.NewLeaseManager(f.db), Namespace: "shoal-test"}
	for _, c := range change {
		c(&opt)
	}
	var err error
	if f.server, err = New(context.Background(), opt); err != nil {
		f.t.Fatal(err)
	}
	f.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		f.server.ServeHTTP(w, r)
	}))
	f.host = strings.TrimPrefix(f.web.URL, "http://")
	f.t.Cleanup(func() {
		f.web.Close()
		if err := f.server.Close(); err != nil {
			f.t.Error(err)
		}
	})
}

func (f *fixture) ref(text string) name.Reference {
	f.t.Helper()
	r, err := name.ParseReference(f.host + "/" + text)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// took counts the requests whose "METHOD path" begins with one of the given, and forgets all.
func (f *fixture) took(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	f.requests = nil
	return n
}

// do makes one request and returns "status body" and the headers.
func (f *fixture) do(method, path, body string, headers ...string) (string, http.Header) {
	f.t.Helper()
	req, err := http.NewRequest(method, f.web.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, b)), resp.Header
}

// arrived waits until the one upload under way has n bytes.
func (f *fixture) arrived(n int64) {
	f.t.Helper()
	for range 1000 {
		all, err := f.db.ContentStore().ListStatuses(f.ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		if len(all) == 1 && all[0].Offset == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.t.Fatal("the bytes did not arrive")
}

func randomImage(t testing.TB, size int64, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

func forArch(t testing.TB, img v1.Image, arch string) v1.Image {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture = arch
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

func digestOf(t testing.TB, i interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// blobs lists the content of the namespace.
func (f *fixture) blobs() []string {
	f.t.Helper()
	var all []string
	err := f.db.ContentStore().Walk(f.ctx, func(i content.Info) error {
		all = append(all, i.Digest.String())
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func (f *fixture) collect() {
	f.t.Helper()
	if _, err := f.db.GarbageCollect(f.ctx); err != nil {
		f.t.Fatal(err)
	}
}

func TestPushedIsInTheStoreAtOnce(t *testing.T) {
	var told []string
	f := open(t, func(o *Options) { o.Pushed = func(name, digest string) { told = append(told, name+" "+digest) } })
	img := randomImage(t, 100_000, 3)
	if err := remote.Write(f.ref("team/web:v1"), img); err != nil {
		t.Fatal(err)
	}
	got, err := f.images.Get(f.ctx, "shoal.local/team/web:v1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Target.Digest.String() != digestOf(t, img) || got.Target.MediaType != string(types.OCIManifestSchema1) {
		t.Errorf("the name has %v", got.Target)
	}
	if want := "shoal.local/team/web:v1 " + digestOf(t, img); fmt.Sprint(told) != "["+want+"]" {
		t.Errorf("told %v", told)
	}
	m, err := images.Manifest(f.ctx, f.db.ContentStore(), got.Target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(m.Layers, m.Config) {
		ra, err := f.db.ContentStore().ReaderAt(f.ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		if sum, err := digest.FromReader(io.NewSectionReader(ra, 0, ra.Size())); err != nil || sum != d.Digest {
			t.Errorf("%s has content %s, %v", d.Digest, sum, err)
		}
		ra.Close()
	}
	if n := len(f.blobs()); n != 5 { // manifest, config, three layers
		t.Errorf("%d blobs", n)
	}

	back, err := remote.Image(f.ref("team/web:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(back); err != nil {
		t.Error(err)
	}
	byDigest, err := remote.Image(f.ref("team/web@" + digestOf(t, img)))
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, byDigest) != digestOf(t, img) {
		t.Error("another image by digest")
	}
}

func TestPushTwiceAndUnderAnotherName(t *testing.T) {
	f := open(t)
	img := randomImage(t, 50_000, 2)
	if err := remote.Write(f.ref("aa:v1"), img); err != nil {
		t.Fatal(err)
	}
	if n := f.took("PATCH"); n != 3 {
		t.Errorf("the first push sent %d blobs", n)
	}
	for _, again := range []string{"aa:v1", "aa:v2", "b/c:v1"} {
		if err := remote.Write(f.ref(again), img); err != nil {
			t.Fatal(err)
		}
		if n := f.took("PATCH"); n != 0 {
			t.Errorf("%s: sent %d blobs again", again, n)
		}
	}
	other := randomImage(t, 10, 1)
	if err := remote.Write(f.ref("aa:v1"), other); err != nil { // a tag moves
		t.Fatal(err)
	}
	desc, err := remote.Head(f.ref("aa:v1"))
	if err != nil || desc.Digest.String() != digestOf(t, other) {
		t.Errorf("the tag has %v, %v", desc, err)
	}
	repo, err := name.NewRepository(f.host + "/aa")
	if err != nil {
		t.Fatal(err)
	}
	if tags, err := remote.List(repo); err != nil || fmt.Sprint(tags) != "[v1 v2]" {
		t.Errorf("tags %v, %v", tags, err)
	}
	reg, err := name.NewRegistry(f.host)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := remote.Catalog(t.Context(), reg); err != nil || fmt.Sprint(all) != "[aa b/c]" {
		t.Errorf("catalog %v, %v", all, err)
	}
	if got, _ := f.do("GET", "/v2/none/tags/list", ""); !strings.HasPrefix(got, "404 ") || !strings.Contains(got, "NAME_UNKNOWN") {
		t.Error(got)
	}
}

func TestPushIndex(t *testing.T) {
	f := open(t)
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: forArch(t, randomImage(t, 1000, 1), arch), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if err := remote.WriteIndex(f.ref("multi:v1"), index); err != nil {
		t.Fatal(err)
	}
	f.collect()
	back, err := remote.Index(f.ref("multi:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(back); err != nil {
		t.Error(err)
	}
	arm, err := remote.Image(f.ref("multi:v1"), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(arm); err != nil {
		t.Error(err)
	}
}

// TestCollectionKeepsWhatTagsReferTo runs containerd's own garbage collector.
func TestCollectionKeepsWhatTagsReferTo(t *testing.T) {
	f := open(t, func(o *Options) { o.Keep = -time.Hour }) // expired when written: references alone keep it
	stays, goes := randomImage(t, 1000, 2), randomImage(t, 1000, 2)
	// With this Keep an unreferenced blob may go at once, so nothing may collect during the push: nothing does.
	for tag, img := range map[string]v1.Image{"xx:stays": stays, "xx:goes": goes, "xx:also": goes} {
		if err := remote.Write(f.ref(tag), img); err != nil {
			t.Fatal(err)
		}
	}
	f.collect()
	if n := len(f.blobs()); n != 8 {
		t.Fatalf("%d of 8 blobs are left", n)
	}
	if err := remote.Delete(f.ref("xx:goes")); err != nil {
		t.Fatal(err)
	}
	f.collect()
	if n := len(f.blobs()); n != 8 {
		t.Errorf("one of two tags is gone: %d of 8 blobs are left", n)
	}
	if err := remote.Delete(f.ref("xx@" + digestOf(t, goes))); err != nil {
		t.Fatal(err)
	}
	f.collect()
	if n := len(f.blobs()); n != 4 {
		t.Errorf("%d of 4 blobs are left", n)
	}
	back, err := remote.Image(f.ref("xx:stays"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(back); err != nil {
		t.Error(err)
	}
	if err := remote.Delete(f.ref("xx:goes")); err == nil {
		t.Error("deleted what is not there")
	}
}

// TestCollectionSparesPushUnderWay: blobs without a manifest, and old blobs that a client asked for, survive.
func TestCollectionSparesPushUnderWay(t *testing.T) {
	f := open(t)
	got, resp := f.do("POST", "/v2/x/blobs/uploads/", "")
	if !strings.HasPrefix(got, "202") {
		t.Fatal(got)
	}
	where := resp.Get("Location")
	if got, resp = f.do("PATCH", where, "hello "); !strings.HasPrefix(got, "202") || resp.Get("Range") != "0-5" {
		t.Fatal(got, resp)
	}
	f.collect()
	d := digest.FromString("hello world").String()
	if got, _ = f.do("PUT", where+"?digest="+d, "world"); !strings.HasPrefix(got, "201") {
		t.Fatal(got)
	}
	f.collect()
	if got, _ = f.do("GET", "/v2/x/blobs/"+d, ""); got != "200 hello world" {
		t.Error(got)
	}

	// An old blob whose time is over: HEAD gives it another while.
	f.server.window.mu.Lock()
	old := f.server.window.lease
	f.server.window.lease.ID = ""
	f.server.window.mu.Unlock()
	if err := metadata.NewLeaseManager(f.db).Delete(f.ctx, old); err != nil {
		t.Fatal(err)
	}
	if got, _ = f.do("HEAD", "/v2/yy/blobs/"+d, ""); got != "200" {
		t.Fatal(got)
	}
	f.collect()
	if got, _ = f.do("GET", "/v2/x/blobs/"+d, ""); got != "200 hello world" {
		t.Error(got)
	}
}

// TestResume breaks an upload off and goes on where it ended.
func TestResume(t *testing.T) {
	f := open(t)
	_, resp := f.do("POST", "/v2/x/blobs/uploads/", "")
	where := resp.Get("Location")

	// A client that promises more than it sends, and is gone.
	body, sent := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, f.web.URL+where, body)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := io.WriteString(sent, strings.Repeat("a", 100_000)); err != nil {
		t.Fatal(err)
	}
	f.arrived(100_000)
	sent.CloseWithError(io.ErrUnexpectedEOF)
	<-ended

	got, resp := f.do("GET", where, "")
	if !strings.HasPrefix(got, "204") {
		t.Fatal(got)
	}
	var have int
	if _, err := fmt.Sscanf(resp.Get("Range"), "0-%d", &have); err != nil {
		t.Fatal(err)
	}
	have++
	rest := strings.Repeat("a", 100_000-have) + strings.Repeat("b", 100_000)
	if got, _ = f.do("PATCH", where, "x", "Content-Range", "150000-150000"); !strings.HasPrefix(got, "416") {
		t.Errorf("a gap was accepted: %s", got)
	}
	rng := fmt.Sprintf("%d-%d", have, have+len(rest)-1)
	if got, _ = f.do("PATCH", where, rest, "Content-Range", rng); !strings.HasPrefix(got, "202") {
		t.Fatal(got)
	}
	whole := strings.Repeat("a", 100_000) + strings.Repeat("b", 100_000)
	d := digest.FromString(whole).String()
	if got, _ = f.do("PUT", where+"?digest="+d, ""); !strings.HasPrefix(got, "201") {
		t.Fatal(got)
	}
	if got, resp = f.do("GET", "/v2/x/blobs/"+d, "", "Range", "bytes=99998-100001"); got != "206 aabb" || resp.Get("Content-Range") != "bytes 99998-100001/200000" {
		t.Error(got, resp)
	}
	if got, _ = f.do("GET", "/v2/x/blobs/"+d, "", "Range", "bytes=300000-300001"); !strings.HasPrefix(got, "416") {
		t.Error(got)
	}
}

func TestSaysWhatIsWrong(t *testing.T) {
	f := open(t, func(o *Options) { o.MaxBlob, o.MaxManifest = 1000, 4000 })
	upload := func() string {
		_, resp := f.do("POST", "/v2/x/blobs/uploads/", "")
		return resp.Get("Location")
	}
	d := digest.FromString("hello").String()
	if got, _ := f.do("POST", "/v2/x/blobs/uploads/?digest="+d, "hello"); !strings.HasPrefix(got, "201") {
		t.Fatal(got)
	}
	const oci = "application/vnd.oci.image.manifest.v1+json"
	const index = "application/vnd.oci.image.index.v1+json"
	absent := digest.FromString("absent").String()
	desc := func(d string, size int) string {
		return fmt.Sprintf(`{"mediaType":"application/octet-stream","digest":%q,"size":%d}`, d, size)
	}
	for _, c := range []struct{ method, path, body, kind, want string }{
		{"PUT", upload() + "?digest=" + absent, "other", "", "400 DIGEST_INVALID"},
		{"PUT", upload() + "?digest=md5:abc", "other", "", "400 DIGEST_INVALID"},
		{"PUT", "/v2/x/blobs/uploads/bm9uZXN1Y2g?digest=" + d, "hello", "", "404 BLOB_UPLOAD_UNKNOWN"},
		{"PATCH", strings.Replace(upload(), "/x/", "/y/", 1), "hello", "", "404 BLOB_UPLOAD_UNKNOWN"},
		{"PATCH", upload(), strings.Repeat("x", 1001), "", "400 SIZE_INVALID"},
		{"GET", "/v2/x/blobs/" + absent, "", "", "404 BLOB_UNKNOWN"},
		{"GET", "/v2/x/manifests/v1", "", "", "404 MANIFEST_UNKNOWN"},
		{"GET", "/v2/x/manifests/" + d, "", "", "404 MANIFEST_UNKNOWN"},
		{"PUT", "/v2/x/manifests/v1", "{}", oci, "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/v1", "not json", oci, "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/v1", "0", oci, "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/", "{}", oci, "404 NAME_UNKNOWN"},
		{"PUT", "/v2/x/manifests/v1", "{}", "text/plain", "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/v1", `{"config":` + desc(absent, 5) + `}`, oci, "404 MANIFEST_BLOB_UNKNOWN"},
		{"PUT", "/v2/x/manifests/v1", `{"config":` + desc(d, 6) + `}`, oci, "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/v1", `{"config":` + desc(d, 5) + `,"manifests":[` + desc(d, 5) + `]}`, oci, "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/v1", `{"manifests":[` + desc(d, 5) + `],"layers":[` + desc(d, 5) + `]}`, index, "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/v1", `{"mediaType":"` + index + `","config":` + desc(d, 5) + `}`, oci, "400 MANIFEST_INVALID"},
		{"PUT", "/v2/x/manifests/v1", strings.Repeat(" ", 4001), oci, "400 SIZE_INVALID"},
		{"PUT", "/v2/X/manifests/v1", "{}", oci, ""},
		{"DELETE", "/v2/x/blobs/" + d, "", "", "400 UNSUPPORTED"},
		{"DELETE", "/v2/x/manifests/v1", "", "", "404 MANIFEST_UNKNOWN"},
		{"POST", "/v2/x/blobs/uploads/?mount=" + absent + "&from=y", "", "", "202"},
		{"POST", "/v2/x/blobs/uploads/?mount=" + d + "&from=y", "", "", "201"},
		{"POST", "/v2/x/blobs/uploads/?mount=" + d, "", "", "201"},
		{"GET", "/v2/", "", "", "200"},
		{"GET", "/", "", "", "404 NAME_UNKNOWN"},
	} {
		got, _ := f.do(c.method, c.path, c.body, "Content-Type", c.kind)
		status, body, _ := strings.Cut(got, " ")
		var e struct {
			Errors []struct{ Code string } `json:"errors"`
		}
		_ = json.Unmarshal([]byte(body), &e)
		short := status
		if len(e.Errors) > 0 {
			short += " " + e.Errors[0].Code
		}
		if c.want == "" { // any refusal of the client's fault
			if status[0] != '4' && !strings.Contains(got, "invalid") {
				t.Errorf("%s %s: %s", c.method, c.path, got)
			}
			continue
		}
		if short != c.want {
			t.Errorf("%s %s %.40s: got %s, want %s", c.method, c.path, c.body, got, c.want)
		}
	}
	// Lengths that are not told beforehand: a manifest, and a blob in two parts that are too much together.
	parts := upload()
	if got, _ := f.do("PATCH", parts, strings.Repeat("x", 600)); !strings.HasPrefix(got, "202") {
		t.Error(got)
	}
	for path, size := range map[string]int{"/v2/x/manifests/v1": 4001, parts + "?digest=" + d: 600, upload() + "?digest=" + d: 1001} {
		req, err := http.NewRequest(http.MethodPut, f.web.URL+path, io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 400 || !strings.Contains(string(b), "SIZE_INVALID") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, b)
		}
	}
	if all, err := f.images.List(f.ctx); err != nil || len(all) != 0 {
		t.Errorf("tags were set: %v, %v", all, err)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	f := open(t, func(o *Options) { o.MaxUploads, o.Idle = 2, 300*time.Millisecond })
	var where string
	for range 2 {
		got, resp := f.do("POST", "/v2/x/blobs/uploads/", "")
		if !strings.HasPrefix(got, "202") {
			t.Fatal(got)
		}
		where = resp.Get("Location")
	}
	if got, _ := f.do("POST", "/v2/x/blobs/uploads/", ""); !strings.HasPrefix(got, "429") {
		t.Error(got)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		left, err := f.db.ContentStore().ListStatuses(f.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("idle uploads stay: %v", left)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got, _ := f.do("PATCH", where, "late"); !strings.Contains(got, "BLOB_UPLOAD_UNKNOWN") {
		t.Error(got)
	}
	if got, _ := f.do("POST", "/v2/x/blobs/uploads/", ""); !strings.HasPrefix(got, "202") {
		t.Error(got)
	}
}

// TestStalledClient sends a part of its blob and then nothing: the connection ends, the upload can go on.
func TestStalledClient(t *testing.T) {
	f := open(t, func(o *Options) { o.Stall = 200 * time.Millisecond })
	_, resp := f.do("POST", "/v2/x/blobs/uploads/", "")
	where := resp.Get("Location")
	body, sent := io.Pipe()
	defer sent.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, f.web.URL+where, body)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := io.WriteString(sent, "abc"); err != nil {
		t.Fatal(err)
	}
	f.arrived(3)
	got, resp := f.do("GET", where, "") // waits for its turn
	if !strings.HasPrefix(got, "204") || resp.Get("Range") != "0-2" {
		t.Error(got, resp)
	}
	sent.Close()
	<-ended
}

// TestRestartDeletesUploads: what a killed process left is gone when the next one opens.
func TestRestartDeletesUploads(t *testing.T) {
	f := open(t)
	w, err := f.db.ContentStore().Writer(f.ctx, content.WithRef(ingests+"OLD"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("half")); err != nil {
		t.Fatal(err)
	}
	w.Close()
	other, err := f.db.ContentStore().Writer(f.ctx, content.WithRef("pull-of-somebody"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f.start()
	left, err := f.db.ContentStore().ListStatuses(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0].Ref != "pull-of-somebody" {
		t.Errorf("left: %v", left)
	}
}

func TestReferrers(t *testing.T) {
	f := open(t)
	img := randomImage(t, 100, 1)
	if err := remote.Write(f.ref("xx:v1"), img); err != nil {
		t.Fatal(err)
	}
	desc, err := remote.Head(f.ref("xx:v1"))
	if err != nil {
		t.Fatal(err)
	}
	signature := mutate.Subject(randomImage(t, 10, 1), *desc).(v1.Image)
	if err := remote.Write(f.ref("xx@"+digestOf(t, signature)), signature); err != nil {
		t.Fatal(err)
	}
	f.collect()
	found, err := remote.Referrers(f.ref("xx@" + digestOf(t, img)).(name.Digest))
	if err != nil {
		t.Fatal(err)
	}
	m, err := found.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 || m.Manifests[0].Digest.String() != digestOf(t, signature) {
		t.Errorf("referrers: %v", m.Manifests)
	}
}

func TestAdmit(t *testing.T) {
	for _, c := range []struct {
		name, token, from, host string
		headers                 []string
		want                    int
	}{
		{"loopback", "", "127.0.0.1:9", "localhost:5000", nil, 200},
		{"loopback by address", "", "[::1]:9", "[::1]:5000", nil, 200},
		{"from afar", "", "192.0.2.1:9", "localhost:5000", nil, 403},
		{"a name that was rebound", "", "127.0.0.1:9", "evil.example:5000", nil, 403},
		{"a web page", "", "127.0.0.1:9", "localhost:5000", []string{"Origin", "http://localhost:3000"}, 403},
		{"no token", "s3cret", "127.0.0.1:9", "localhost:5000", nil, 401},
		{"wrong token", "s3cret", "192.0.2.1:9", "node1:5000", []string{"Authorization", "Bearer wrong"}, 401},
		{"bearer", "s3cret", "192.0.2.1:9", "node1:5000", []string{"Authorization", "Bearer s3cret"}, 200},
		{"password", "s3cret", "192.0.2.1:9", "node1:5000", []string{"Authorization", "Basic YW55Ym9keTpzM2NyZXQ="}, 200},
	} {
		f := open(t, func(o *Options) { o.Token = c.token })
		r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		r.RemoteAddr, r.Host = c.from, c.host
		for i := 0; i < len(c.headers); i += 2 {
			r.Header.Set(c.headers[i], c.headers[i+1])
		}
		w := httptest.NewRecorder()
		f.server.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: got %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
		if c.want == 401 && w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no challenge", c.name)
		}
	}
}

// TestThroughTheDaemonsAPI does it all once more with the content store behind containerd's gRPC service, as the
// agent has it: a writer there is a stream that lives as long as its context.
func TestThroughTheDaemonsAPI(t *testing.T) {
	f := open(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	daemon := grpc.NewServer()
	contentapi.RegisterContentServer(daemon, contentserver.New(f.db.ContentStore()))
	go func() { _ = daemon.Serve(listener) }()
	t.Cleanup(daemon.Stop)
	conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	remoteStore := proxy.NewContentStore(conn)
	f.start(func(o *Options) { o.Content, o.MaxBlob = remoteStore, 1<<20 })

	img := randomImage(t, 300_000, 3)
	for range 2 {
		if err := remote.Write(f.ref("team/web:v1"), img); err != nil {
			t.Fatal(err)
		}
	}
	f.collect()
	back, err := remote.Image(f.ref("team/web:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(back); err != nil {
		t.Error(err)
	}
	_, resp := f.do("POST", "/v2/x/blobs/uploads/", "")
	where := resp.Get("Location")
	for i, part := range []string{"hello ", "wide ", "world"} {
		if got, _ := f.do("PATCH", where, part); !strings.HasPrefix(got, "202") {
			t.Fatal(i, got)
		}
	}
	if got, _ := f.do("PUT", where+"?digest="+digest.FromString("other").String(), ""); !strings.Contains(got, "DIGEST_INVALID") {
		t.Error(got)
	}
	_, resp = f.do("POST", "/v2/x/blobs/uploads/", "")
	where = resp.Get("Location")
	d := digest.FromString("hello wide world").String()
	f.do("PATCH", where, "hello wide ")
	if got, _ := f.do("PUT", where+"?digest="+d, "world"); !strings.HasPrefix(got, "201") {
		t.Error(got)
	}
	if got, _ := f.do("GET", "/v2/x/blobs/"+d, "", "Range", "bytes=6-9"); got != "206 wide" {
		t.Error(got)
	}
	for range 3 { // the same blob again: it is there already, and that is no fault
		if got, _ := f.do("POST", "/v2/x/blobs/uploads/?digest="+d, "hello wide world"); !strings.HasPrefix(got, "201") {
			t.Error(got)
		}
	}
	left, err := f.db.ContentStore().ListStatuses(f.ctx)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestManyAtOnce pushes images that share a layer at the same time.
func TestManyAtOnce(t *testing.T) {
	f := open(t)
	shared, err := random.Layer(200_000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		img, err := mutate.AppendLayers(randomImage(t, 1000, 1), shared)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			ref := f.ref(fmt.Sprintf("app%d:v1", i%4))
			if err := remote.Write(ref, img, remote.WithJobs(2)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range 4 {
		img, err := remote.Image(f.ref(fmt.Sprintf("app%d:v1", i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(img); err != nil {
			t.Error(err)
		}
	}
	left, err := f.db.ContentStore().ListStatuses(f.ctx)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// FuzzRequest: whatever is sent, the answer is the client's fault or success, never ours.
func FuzzRequest(f *testing.F) {
	fix := open(f)
	d := digest.FromString("hello").String()
	for _, s := range []struct{ method, path, header, body string }{
		{"GET", "/v2/", "", ""},
		{"POST", "/v2/x/blobs/uploads/?digest=" + d, "", "hello"},
		{"POST", "/v2/x/blobs/uploads/?mount=" + d + "&from=y", "", ""},
		{"PUT", "/v2/x/manifests/v1", "application/vnd.oci.image.manifest.v1+json", `{"schemaVersion":2,"config":{"digest":"` + d + `","size":5}}`},
		{"GET", "/v2/x/manifests/" + d, "", ""},
		{"GET", "/v2/x/tags/list?n=1&last=a", "", ""},
		{"GET", "/v2/x/referrers/" + d, "", ""},
		{"GET", "/v2/x/blobs/" + d, "bytes=1-2", ""},
		{"PATCH", "/v2/x/blobs/uploads/abc", "0-4", "hello"},
		{"DELETE", "/v2/x/manifests/v1", "", ""},
	} {
		f.Add(s.method, s.path, s.header, s.body)
	}
	f.Fuzz(func(t *testing.T, method, path, header, body string) {
		r, err := http.NewRequest(method, "http://localhost:5000", strings.NewReader(body))
		if err != nil {
			return
		}
		if r.URL, err = r.URL.Parse(path); err != nil || !strings.HasPrefix(r.URL.Path, "/") {
			return
		}
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost:5000"
		for _, h := range []string{"Content-Type", "Range", "Content-Range"} {
			r.Header.Set(h, header)
		}
		w := httptest.NewRecorder()
		fix.server.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	})
}

func BenchmarkPush(b *testing.B) {
	f := open(b)
	i := 0
	for b.Loop() {
		i++
		b.StopTimer()
		img := randomImage(b, 1<<20, 3)
		b.StartTimer()
		if err := remote.Write(f.ref(fmt.Sprintf("xx:v%d", i)), img); err != nil {
			b.Fatal(err)
		}
	}
}

// TestInside is a registry that others are let in to by what it is mounted in: it asks nobody who they are, and is for
// reading alone.
func TestInside(t *testing.T) {
	f := open(t)
	img := randomImage(t, 1000, 1)
	if err := remote.Write(f.ref("aa:v1"), img); err != nil {
		t.Fatal(err)
	}
	f.start(func(o *Options) { o.Inside, o.Token = true, "s3cret" })
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/v2/aa/manifests/" + digestOf(t, img), 200},
		{http.MethodHead, "/v2/aa/manifests/v1", 200},
		{http.MethodPost, "/v2/aa/blobs/uploads/", 403},
		{http.MethodPut, "/v2/aa/manifests/v2", 403},
		{http.MethodDelete, "/v2/aa/manifests/v1", 403},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.RemoteAddr, r.Host = "192.0.2.1:9", "anything"
		w := httptest.NewRecorder()
		f.server.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s: got %d %s, want %d", c.method, c.path, w.Code, w.Body, c.want)
		}
	}
}

// TestAgree is a tag that is not set because somebody has to agree and does not; all that it leads to is here then.
func TestAgree(t *testing.T) {
	var asked []string
	refuse := errors.New("no majority")
	f := open(t, func(o *Options) {
		o.Agree = func(_ context.Context, name, digest string) error {
			asked = append(asked, name+"@"+digest)
			return refuse
		}
	})
	img := randomImage(t, 1000, 1)
	if err := remote.Write(f.ref("aa:v1"), img); err == nil {
		t.Error("a tag was set that nobody agreed to")
	}
	if _, err := remote.Head(f.ref("aa:v1")); err == nil {
		t.Error("the tag is there")
	}
	if _, err := remote.Head(f.ref("aa@" + digestOf(t, img))); err != nil {
		t.Errorf("the image is not: %v", err)
	}
	refuse = nil
	if err := remote.Write(f.ref("aa:v1"), img); err != nil {
		t.Error(err)
	}
	if want := "shoal.local/aa:v1@" + digestOf(t, img); len(asked) < 2 || asked[0] != want || asked[len(asked)-1] != want {
		t.Errorf("asked %q, want %q", asked, want)
	}
}
