package trust

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/shoal-dev/shoal/engine/source"
)

// signedCommit is a commit taken apart by this package: what is signed, and by what.
type signedCommit struct {
	source.Commit
	payload   []byte // the exact bytes less the signature
	signature string // armored, or ""
}

// parseCommit reads the raw bytes of the commit id. It knows one way to read them: the id must be theirs, headers stand once and in
// Git's order, only mergetag may repeat, and the text is UTF-8.
func parseCommit(id source.ID, raw []byte) (signedCommit, error) {
	var c signedCommit
	if len(raw) > MaxObject {
		return c, fmt.Errorf("%d bytes long; at most %d", len(raw), MaxObject)
	}
	if source.ObjectID("commit", raw) != id {
		return c, errors.New("its bytes are not those of its id")
	}
	parsed, err := source.ParseCommit(id, raw)
	if err != nil {
		return c, errors.New(strings.TrimPrefix(err.Error(), "commit "+id.Short()+": "))
	}
	c.Commit = parsed
	c.payload, c.signature, err = splitCommit(raw)
	if err != nil {
		return c, err
	}
	// Two parsers of ours agree on what is signed, or it is refused.
	if parsed.Signature != c.signature || !bytes.Equal(parsed.Payload, c.payload) {
		return c, errors.New("its signature can be read two ways")
	}
	return c, nil
}

// splitCommit takes the gpgsig header out of a commit.
func splitCommit(raw []byte) (payload []byte, signature string, err error) {
	head, _, ok := bytes.Cut(raw, []byte("\n\n"))
	var rest []byte
	if ok {
		rest = raw[len(head)+1:] // with the empty line
	} else {
		head = bytes.TrimSuffix(raw, []byte("\n"))
	}
	if !utf8.Valid(raw) {
		return nil, "", errors.New("is not UTF-8")
	}
	var out, sig bytes.Buffer
	var seen []string
	last := ""
	for i, line := range strings.Split(string(head), "\n") {
		if strings.HasPrefix(line, " ") {
			switch last {
			case "gpgsig":
				sig.WriteString(line[1:] + "\n")
			case "", "tree", "parent", "author", "committer", "encoding":
				return nil, "", fmt.Errorf("line %d: %q goes on over several lines", i+1, last)
			default:
				out.WriteString(line + "\n")
			}
			continue
		}
		key, value, ok := strings.Cut(line, " ")
		switch {
		case !ok || !headerName(key):
			return nil, "", fmt.Errorf("line %d: no header", i+1)
		case strings.IndexFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }) >= 0:
			return nil, "", fmt.Errorf("line %d: %s holds a control character", i+1, cut(key))
		case key != "parent" && key != "mergetag" && slices.Contains(seen, key):
			return nil, "", fmt.Errorf("line %d: a second %q", i+1, cut(key))
		case len(seen) > 4096:
			return nil, "", errors.New("more than 4096 headers")
		case key == "encoding" && !strings.EqualFold(value, "UTF-8"):
			return nil, "", fmt.Errorf("line %d: encoding %q; expected UTF-8", i+1, cut(value))
		case key != "gpgsig" && strings.HasPrefix(key, "gpgsig"):
			return nil, "", fmt.Errorf("line %d: %q is not supported", i+1, cut(key))
		}
		seen, last = append(seen, key), key
		if key == "gpgsig" {
			sig.WriteString(value + "\n")
			continue
		}
		out.WriteString(line + "\n")
	}
	switch {
	case slices.Contains(seen, "gpgsig") && strings.TrimSpace(sig.String()) == "":
		return nil, "", errors.New("an empty signature")
	case sig.Len() > MaxSignature:
		return nil, "", fmt.Errorf("a signature of %d bytes; at most %d", sig.Len(), MaxSignature)
	case sig.Len() == 0:
		return raw, "", nil
	}
	if rest == nil && !bytes.HasSuffix(raw, []byte("\n")) {
		return nil, "", errors.New("no end of the header")
	}
	return append(out.Bytes(), rest...), sig.String(), nil
}

func headerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-' && c != ':' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// SignCommit puts the signature of key into an unsigned commit and returns its new bytes. The ring signs what it commits by it.
func SignCommit(raw []byte, key ssh.Signer) ([]byte, error) {
	c, err := parseCommit(source.ObjectID("commit", raw), raw)
	if err != nil {
		return nil, fmt.Errorf("sign commit: %w", err)
	}
	if c.signature != "" {
		return nil, errors.New("sign commit: it is signed already")
	}
	armored, err := Sign(raw, key)
	if err != nil {
		return nil, err
	}
	header := "\ngpgsig " + strings.ReplaceAll(strings.TrimSuffix(armored, "\n"), "\n", "\n ")
	end := bytes.Index(raw, []byte("\n\n"))
	if end < 0 {
		return nil, errors.New("sign commit: it has no message")
	}
	return slices.Concat(raw[:end], []byte(header), raw[end:]), nil
}

// tag is an annotated tag.
type tag struct {
	object    source.ID
	name      string
	tagger    source.Person
	payload   []byte
	signature string // armored, or ""
}

// parseTag reads the raw bytes of an annotated tag of a commit: object, type, tag and tagger, each once and in this order, then the
// message, then one signature or none.
func parseTag(raw []byte) (tag, error) {
	var t tag
	switch {
	case len(raw) > MaxObject:
		return t, fmt.Errorf("%d bytes long; at most %d", len(raw), MaxObject)
	case bytes.IndexByte(raw, 0) >= 0 || !utf8.Valid(raw):
		return t, errors.New("is not UTF-8 text")
	}
	head, message, ok := strings.Cut(string(raw), "\n\n")
	if !ok {
		return t, errors.New("no end of the header")
	}
	lines := strings.Split(head, "\n")
	want := []string{"object", "type", "tag", "tagger"}
	if len(lines) != len(want) {
		return t, fmt.Errorf("%d headers; expected %s", len(lines), strings.Join(want, ", "))
	}
	values := make([]string, len(want))
	for i, line := range lines {
		value, ok := strings.CutPrefix(line, want[i]+" ")
		if !ok || strings.IndexFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }) >= 0 {
			return t, fmt.Errorf("line %d: expected %q and one value", i+1, want[i])
		}
		values[i] = value
	}
	t.object, t.name = source.ID(values[0]), values[2]
	if !t.object.Valid() || values[1] != "commit" {
		return t, errors.New("is no tag of a commit")
	}
	var err error
	if t.tagger, err = parsePerson(values[3]); err != nil {
		return t, fmt.Errorf("tagger: %w", err)
	}
	at := -1
	for i := 0; i < len(message); {
		line, _, _ := strings.Cut(message[i:], "\n")
		if slices.ContainsFunc(starts, func(s string) bool { return strings.HasPrefix(line, s) }) {
			if at >= 0 {
				return t, errors.New("more than one signature")
			}
			at = i
		}
		i += len(line) + 1
	}
	t.payload = raw
	if at >= 0 {
		t.signature = message[at:]
		t.payload = raw[:len(raw)-len(t.signature)]
	}
	if len(t.signature) > MaxSignature {
		return t, fmt.Errorf("a signature of %d bytes; at most %d", len(t.signature), MaxSignature)
	}
	return t, nil
}

// parsePerson reads "Ada <ada@example.org> 1700000000 +0100", by the rules that hold for commits.
func parsePerson(s string) (source.Person, error) {
	const id = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
	c, err := source.ParseCommit(id, []byte("tree "+id+"\nauthor "+s+"\ncommitter "+s+"\n\n"))
	if err != nil {
		return source.Person{}, errors.New("expected \"Name <email> seconds zone\"")
	}
	return c.Author, nil
}
