package source

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var ada = Person{"Ada Lovelace", "ada@example.org", time.Unix(1_700_000_000, 0).In(time.FixedZone("", 3600))}

func TestCommitRoundTrip(t *testing.T) {
	tree, parent := ObjectID("tree", nil), ObjectID("blob", nil)
	c := Commit{Tree: tree, Parents: []ID{parent, tree}, Author: ada, Committer: ada, Message: "web: 3 replicas\n\nBody.\n\nShoal-Reason: load\n"}
	raw := EncodeCommit(c)
	got, err := ParseCommit(ObjectID("commit", raw), raw)
	if err != nil {
		t.Fatal(err)
	}
	if string(EncodeCommit(got)) != string(raw) || got.Subject() != "web: 3 replicas" || !got.Author.When.Equal(ada.When) || got.Author.String() != "Ada Lovelace <ada@example.org>" {
		t.Errorf("read back as %+v", got)
	}
	if why, ok := got.Trailer("shoal-reason"); why != "load" || !ok {
		t.Errorf("Trailer = %q, %v", why, ok)
	}
}

// TestParseCommitIsStrict refuses commits that two readers may read two ways.
func TestParseCommitIsStrict(t *testing.T) {
	id := strings.Repeat("a", 40)
	who := "Ada <a@b> 1700000000 +0100"
	ok := "tree " + id + "\nparent " + id + "\nauthor " + who + "\ncommitter " + who + "\n"
	for _, c := range []struct{ raw, want string }{
		{ok + "\nmessage\n", ""},
		{ok + "gpgsig -----BEGIN\n line\n -----END\nx-header 1\n\nmessage\n", ""},
		{ok, ""}, // no message at all
		{"", "no end of the header"},
		{"parent " + id + "\n\nm", `line 1: expected "tree <id>"`},
		{"tree xyz\n\nm", `line 1: expected "tree <id>"`},
		{strings.Replace(ok, "\nparent", "\ntree", 1) + "\nm", `line 2: "tree" is out of place`},
		{ok + "tree " + id + "\n\nm", `line 5: a second "tree"`},
		{ok + "author " + who + "\n\nm", `line 5: a second "author"`},
		{ok + "gpgsig a\ngpgsig b\n\nm", "line 6: a second signature"},
		{"tree " + id + "\nauthor " + who + "\nparent " + id + "\n\nm", `line 3: "parent" is out of place`},
		{"tree " + id + "\n\nm", "no author and committer"},
		{"tree " + id + "\nauthor Ada\n\nm", `line 2: author: expected "Name <email> seconds zone", found "Ada"`},
		{"tree " + id + "\nauthor A <b> soon +0100\n\nm", `line 2: author: "soon" is no time in seconds`},
		{ok + "\nmess\x00age\n", fmt.Sprintf("offset %d: holds a NUL", len(ok)+5)},
	} {
		_, err := ParseCommit(ID(id), []byte(c.raw))
		if got := strings.TrimPrefix(text(err), "commit aaaaaaaaaaaa: "); got != c.want {
			t.Errorf("%q: %s\nwant %s", c.raw, got, c.want)
		}
	}
	signed := ok + "gpgsig -----BEGIN\n line\n -----END\nx-header 1\n\nmessage\n"
	c, _ := ParseCommit(ID(id), []byte(signed))
	if c.Signature != "-----BEGIN\nline\n-----END\n" || string(c.Payload) != ok+"x-header 1\n\nmessage\n" {
		t.Errorf("signature %q over %q", c.Signature, c.Payload)
	}
}

// TestTrailers compares with git interpret-trailers where git has an opinion.
func TestTrailers(t *testing.T) {
	for _, message := range []string{
		"subject\n\nbody\n\nShoal-Allow-Delete: 3\nShoal-Reason: two\n lines\n",
		"subject\n\nShoal-By: ada\n",
		"subject\n\nShoal-By: ada\r\n\r\n",
		"Shoal-By: only a subject\n",
		"subject\n\nnot: a trailer\nbecause this line is none\n",
		"subject\n\nA: 1\n\nB: 2\n",
		"",
	} {
		c := exec.Command("git", "interpret-trailers", "--parse")
		c.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+t.TempDir())
		c.Stdin = strings.NewReader(message)
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, tr := range Trailers(message) {
			fmt.Fprintf(&b, "%s: %s\n", tr.Key, tr.Value)
		}
		if want := strings.ReplaceAll(string(out), "\r", ""); b.String() != want {
			t.Errorf("%q:\n%sgit:\n%s", message, b.String(), want)
		}
	}
}

func TestAllowDelete(t *testing.T) {
	for _, c := range []struct {
		trailer string
		n       int
		err     string
	}{
		{"", 0, ""},
		{"Shoal-Allow-Delete: 12", 12, ""},
		{"shoal-allow-delete: ALL", -1, ""},
		{"Shoal-Allow-Delete: 0", 0, ""},
		{"Shoal-Allow-Delete: some", 0, `commit : Shoal-Allow-Delete: "some" is neither a number nor "all"`},
		{"Shoal-Allow-Delete: -1", 0, `commit : Shoal-Allow-Delete: "-1" is neither a number nor "all"`},
	} {
		n, err := Commit{Message: "s\n\n" + c.trailer}.AllowDelete()
		if n != c.n || text(err) != c.err {
			t.Errorf("%q: %d, %v, want %d, %s", c.trailer, n, err, c.n, c.err)
		}
	}
}

func TestPolicy(t *testing.T) {
	var b strings.Builder
	for _, p := range []Policy{Refuse, Accept} {
		for r := Same; r <= Unrelated; r++ {
			ok, why := p.Judge(r)
			fmt.Fprintf(&b, "%s %s: %v %s\n", p, r, ok, why)
		}
	}
	const want = `refuse same: true 
refuse forward: true 
refuse backward: false the new tip is older than the accepted commit; refs move forward only
refuse diverged: false the branch was rewritten: the new tip does not descend from the accepted commit
refuse unrelated: false the new tip is not known to descend from the accepted commit
accept same: true 
accept forward: true 
accept backward: true 
accept diverged: true 
accept unrelated: true 
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func FuzzParseCommit(f *testing.F) {
	f.Add(EncodeCommit(Commit{Tree: ObjectID("tree", nil), Author: ada, Committer: ada, Message: "m\n\nShoal-By: x\n"}))
	f.Add([]byte("tree \ngpgsig \n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseCommit(ObjectID("commit", raw), raw)
		if err != nil {
			return
		}
		again, err := ParseCommit("", EncodeCommit(c))
		if err != nil || again.Tree != c.Tree || len(again.Parents) != len(c.Parents) || again.Message != c.Message {
			t.Fatalf("%+v\n%+v\n%v", c, again, err)
		}
		_, _ = c.AllowDelete()
	})
}

func TestRetires(t *testing.T) {
	for _, tt := range []struct {
		trailers string
		want     string
	}{
		{"", ""},
		{"Shoal-Retire: staging", "staging"},
		{"shoal-retire: staging, old\nShoal-Reason: moved\nShoal-Retire: pr-12", "old pr-12 staging"},
		{"Shoal-Retire: stag", ""},
		{"Shoal-Retire: all", ""},
		{"no trailer\nShoal-Retire: staging", ""},
	} {
		c := Commit{Message: "subject\n\n" + tt.trailers + "\n"}
		var got []string
		for _, name := range []string{"old", "pr-12", "staging"} {
			if c.Retires(name) {
				got = append(got, name)
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%q retires %q, want %q", tt.trailers, s, tt.want)
		}
	}
}
