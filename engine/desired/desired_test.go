package desired

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/shoal-dev/shoal/engine/render"
)

// blobs is a content store in memory.
type blobs map[Digest][]byte

func (s blobs) Get(d Digest) ([]byte, error) {
	b, ok := s[d]
	if !ok {
		return nil, fmt.Errorf("no blob %s", d)
	}
	return b, nil
}

// compile compiles an app that may have problems and keeps its blobs.
func (s blobs) compile(tb testing.TB, env render.Environment, a render.App) App {
	tb.Helper()
	out, bs := Compile(env, a)
	for _, b := range bs {
		if DigestOf(b.Bytes) != b.Digest {
			tb.Fatalf("blob %s has another digest", b.Digest)
		}
		s[b.Digest] = b.Bytes
	}
	for _, it := range out.Items { // what is known of an object can be read from its bytes again
		obj, err := Object(s, it.Digest)
		if err != nil {
			tb.Fatal(err)
		}
		known, _ := json.Marshal(it.Facts)
		read, _ := json.Marshal(factsOf(obj))
		if string(known) != string(read) {
			tb.Fatalf("%s: %s is known and %s read", it.Key, known, read)
		}
	}
	return out
}
