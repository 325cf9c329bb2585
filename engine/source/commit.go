package source

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Commit is what a commit says about itself.
type Commit struct {
	ID        ID
	Tree      ID
	Parents   []ID
	Author    Person
	Committer Person
	Message   string
	// Signature is the armoured signature, or "". Payload is the exact bytes it covers.
	Signature string
	Payload   []byte
}

// Person is who did something, and when, in the zone it was done.
type Person struct {
	Name, Email string
	When        time.Time
}

// String is "Ada <ada@example.org>".
func (p Person) String() string { return p.Name + " <" + p.Email + ">" }

// Subject is the first line of the message.
func (c Commit) Subject() string {
	line, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return strings.TrimSpace(line)
}

// ParseCommit reads the raw bytes of a commit. It is strict about what decides: one tree, then parents, one
// author and one committer in this order, each once, and no NUL, so that no commit can be read two ways.
func ParseCommit(id ID, raw []byte) (Commit, error) {
	bad := func(format string, a ...any) (Commit, error) {
		return Commit{}, fmt.Errorf("commit %s: %s", id.Short(), fmt.Sprintf(format, a...))
	}
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		return bad("offset %d: holds a NUL", i)
	}
	head, message, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		if head, ok = bytes.CutSuffix(raw, []byte("\n")); !ok {
			return bad("no end of the header")
		}
	}
	c := Commit{ID: id, Message: string(message)}
	const wantTree, wantParents, wantCommitter, wantRest = 0, 1, 2, 3
	state := wantTree
	lines := strings.Split(string(head), "\n")
	for i := 0; i < len(lines); i++ {
		key, value, _ := strings.Cut(lines[i], " ")
		switch {
		case state == wantTree:
			if key != "tree" || !ID(value).Valid() {
				return bad("line 1: expected \"tree <id>\"")
			}
			c.Tree, state = ID(value), wantParents
		case state == wantParents && key == "parent":
			if !ID(value).Valid() {
				return bad("line %d: expected \"parent <id>\"", i+1)
			}
			c.Parents = append(c.Parents, ID(value))
		case state == wantParents && key == "author":
			p, err := parsePerson(value)
			if err != nil {
				return bad("line %d: author: %v", i+1, err)
			}
			c.Author, state = p, wantCommitter
		case state == wantCommitter && key == "committer":
			p, err := parsePerson(value)
			if err != nil {
				return bad("line %d: committer: %v", i+1, err)
			}
			c.Committer, state = p, wantRest
		case state != wantRest:
			return bad("line %d: %q is out of place", i+1, cut(key))
		case key == "tree" || key == "parent" || key == "author" || key == "committer":
			return bad("line %d: a second %q", i+1, key)
		case key == "gpgsig":
			if c.Signature != "" {
				return bad("line %d: a second signature", i+1)
			}
			for i+1 < len(lines) && strings.HasPrefix(lines[i+1], " ") {
				i++
				value += "\n" + lines[i][1:]
			}
			c.Signature = value + "\n"
		}
	}
	if state != wantRest {
		return bad("no author and committer")
	}
	c.Payload = raw
	if c.Signature != "" {
		c.Payload = withoutSignature(head, raw[len(head):])
	}
	return c, nil
}

// withoutSignature is a commit's bytes less the gpgsig header and its continuation lines.
func withoutSignature(head, rest []byte) []byte {
	var b bytes.Buffer
	inside := false
	for line := range bytes.Lines(head) {
		inside = bytes.HasPrefix(line, []byte("gpgsig ")) || inside && line[0] == ' '
		if !inside {
			b.Write(line)
		}
	}
	return append(bytes.TrimSuffix(b.Bytes(), []byte("\n")), rest...)
}

// parsePerson reads "Ada <ada@example.org> 1700000000 +0100".
func parsePerson(s string) (Person, error) {
	open, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if open < 0 || end < open {
		return Person{}, fmt.Errorf("expected \"Name <email> seconds zone\", found %q", cut(s))
	}
	p := Person{Name: strings.TrimSpace(s[:open]), Email: s[open+1 : end]}
	seconds, zone, _ := strings.Cut(strings.TrimSpace(s[end+1:]), " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || unix < -1<<40 || unix > 1<<40 {
		return Person{}, fmt.Errorf("%q is no time in seconds", cut(seconds))
	}
	offset, err := strconv.Atoi(zone)
	if err != nil || offset < -9959 || offset > 9959 {
		offset = 0 // old tools wrote odd zones; the instant is what counts
	}
	p.When = time.Unix(unix, 0).In(time.FixedZone("", (offset/100*60+offset%100)*60))
	return p, nil
}

// EncodeCommit is the raw bytes of c, unsigned. Line ends and NULs in names are left out.
func EncodeCommit(c Commit) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", c.Tree)
	for _, p := range c.Parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	fmt.Fprintf(&b, "author %s\ncommitter %s\n\n", c.Author.encode(), c.Committer.encode())
	b.WriteString(strings.ReplaceAll(c.Message, "\x00", ""))
	return b.Bytes()
}

func (p Person) encode() string {
	clean := func(s string) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < 0x20 || r == '<' || r == '>' {
				return -1
			}
			return r
		}, s))
	}
	return fmt.Sprintf("%s <%s> %d %s", clean(p.Name), clean(p.Email), p.When.Unix(), p.When.Format("-0700"))
}
