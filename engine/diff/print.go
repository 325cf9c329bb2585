package diff

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shoal-dev/shoal/engine/desired"
)

// MaxComment is the most bytes of a comment that all forges take: GitHub and Gitea count 65,536 characters.
const MaxComment = 65_536

const (
	maxValue  = 200 // bytes of a value that is printed
	maxFields = 20  // fields of an object in Markdown
	maxLines  = 50  // problems and warnings in Markdown
)

// The titles of a text's two parts.
const (
	FirstTitle = "look at these first"
	RestTitle  = "the rest"
)

// Nothing is what people call it when nothing runs.
const Nothing = "nothing"

// signs are how a line of text begins.
var signs = map[desired.Op]string{desired.Create: "+", desired.Update: "~", desired.Delete: "-", "": " "}

// Text is the report for a terminal, unbounded in length.
func (r Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, plan %s\n", r.title(), r.Digest[:min(12, len(r.Digest))])
	for _, line := range r.remarks() {
		b.WriteString(clean(line) + "\n")
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", clean(w))
	}
	if len(r.Held) > 0 {
		fmt.Fprintf(&b, "would be held as they run: %s\n", clean(strings.Join(r.Held, ", ")))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s\n", clean(p))
	}
	section := func(title string, items []Item) {
		if len(items) == 0 {
			return
		}
		b.WriteString(title + "\n")
		for _, it := range items {
			fmt.Fprintf(&b, "%s %s %s\n", signs[it.Op], it.verb(), clean(it.Object))
			for _, n := range it.Notes {
				fmt.Fprintf(&b, "    ! %s\n", n)
			}
			for _, f := range it.Fields {
				fmt.Fprintf(&b, "      %s\n", field(f))
			}
		}
	}
	section(FirstTitle, r.First)
	section(RestTitle, r.Rest)
	b.WriteString(r.foot() + "\n")
	return b.String()
}

// remarks say what is not as one would think.
func (r Report) remarks() (lines []string) {
	if r.Refused != "" {
		lines = append(lines, "would not be accepted, what runs goes on: "+r.Refused)
	}
	if r.Note != "" {
		lines = append(lines, "none of this would happen now: "+r.Note)
	}
	switch {
	case r.Running == "":
	case r.Running == Nothing:
		lines = append(lines, "objects are compared with "+r.From+"; nothing runs, so all pods start")
	case strings.Contains(r.To, r.Running):
		lines = append(lines, "objects are compared with "+r.From+"; "+r.To+" is what runs")
	default:
		lines = append(lines, "objects are compared with "+r.From+"; pods go from "+r.Running+", which runs, to "+r.To)
	}
	return lines
}

// String is "exposes node port 30080/TCP".
func (n Note) String() string {
	switch n.Kind {
	case Exposes:
		return "exposes " + clean(n.Text)
	case Moves:
		return "moves: " + clean(n.Text)
	case Restarts, Deletes, Hides, Other:
	}
	return clean(n.Text)
}

func (it Item) verb() string {
	if it.Op == "" {
		return "stays"
	}
	return string(it.Op)
}

func (r Report) title() string {
	s := clean(r.Environment)
	if r.From != "" || r.To != "" {
		s += ": " + clean(r.From) + ".." + clean(r.To)
	}
	if !r.Changes() {
		s += ": nothing changes"
	}
	return s
}

func (r Report) foot() string {
	s := plural(r.Unchanged, "object does not change", "objects do not change")
	if r.PodsGoOn > 0 {
		s += ", " + plural(r.PodsGoOn, "pod goes on", "pods go on") + " untouched"
	}
	return s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// field is one difference in a line.
func field(f desired.FieldChange) string {
	f.Path, f.Old, f.New = clip(clean(f.Path)), clip(clean(f.Old)), clip(clean(f.New))
	return f.String()
}

// clean leaves nothing that a terminal or a forge would not take for text: every character that cannot be printed
// becomes a space.
func clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
}

// clip shortens s at the border of a rune.
func clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return string(bytes.ToValidUTF8([]byte(s[:maxValue]), nil)) + "..."
}

// Marker is the first line of a comment, by which the one of an environment is found and kept up to date.
func Marker(environment string) string {
	return "<!-- shoal plan " + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.ReplaceAll(clip(environment), "--", "-")) + " -->"
}

// Markdown is the report for a comment on a pull request, of at most limit bytes; 0 means MaxComment, and less than 4096
// counts as 4096. What finds no room is counted.
func (r Report) Markdown(limit int) string {
	if limit == 0 {
		limit = MaxComment
	}
	m := markdown{limit: max(limit, 4096) - reserve}
	m.b.WriteString(Marker(r.Environment) + "\n")
	m.b.WriteString("**Plan for " + code(r.Environment) + "**")
	if r.From != "" || r.To != "" {
		m.b.WriteString(" " + code(r.From+".."+r.To))
	}
	m.b.WriteString("\n\n")
	for _, line := range r.remarks() {
		m.put(code(line) + "\n\n")
	}
	if !r.Changes() {
		m.b.WriteString("Nothing changes.\n\n")
	}
	m.lines("Held as they run", []string{strings.Join(r.Held, ", ")})
	m.lines("Problems", r.Problems)
	m.lines("Warnings", r.Warnings)
	if len(r.First) > 0 {
		m.b.WriteString("Look at these first:\n\n")
		for _, it := range r.First {
			m.item(it)
		}
		m.b.WriteString("\n")
	}
	if len(r.Rest) > 0 {
		m.b.WriteString("<details><summary>" + plural(len(r.Rest), "other object", "other objects") + "</summary>\n\n")
		for _, it := range r.Rest {
			m.item(it)
		}
		m.b.WriteString("\n</details>\n\n")
	}
	if m.objects > 0 || m.more > 0 {
		m.b.WriteString("Not shown for want of room: " + plural(m.objects, "object", "objects") + ", " + plural(m.more, "field or line", "fields and lines") + ". `shoal plan` shows all.\n\n")
	}
	m.b.WriteString(r.foot() + ". Plan " + code(string(r.Digest)) + "\n")
	return m.b.String()
}

// reserve is room for all that is written whatever the limit: heads, feet and counts.
const reserve = 3072

type markdown struct {
	b       strings.Builder
	limit   int
	objects int // that found no room
	more    int // fields and lines that found none
}

// put writes s if there is room.
func (m *markdown) put(s string) bool {
	if m.b.Len()+len(s) > m.limit {
		return false
	}
	m.b.WriteString(s)
	return true
}

func (m *markdown) lines(title string, lines []string) {
	if len(lines) == 0 || len(lines) == 1 && lines[0] == "" {
		return
	}
	if !m.put(title + ":\n\n") {
		m.more += len(lines)
		return
	}
	for i, l := range lines {
		if i == maxLines || !m.put("- "+code(l)+"\n") {
			m.more += len(lines) - i
			break
		}
	}
	m.b.WriteString("\n")
}

// item writes an object with its notes, and as many fields as find room; or nothing of it.
func (m *markdown) item(it Item) {
	var s strings.Builder
	fmt.Fprintf(&s, "- %s %s", it.verb(), code(it.Object))
	for i, n := range it.Notes {
		if i == maxFields {
			fmt.Fprintf(&s, "; and %d more", len(it.Notes)-i)
			break
		}
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		s.WriteString(sep)
		if n.Kind.rank() < Hides.rank() {
			s.WriteString("**" + string(n.Kind) + "** ")
		}
		s.WriteString(code(n.Text))
	}
	s.WriteString("\n")
	if !m.put(s.String()) {
		m.objects++
		m.more += len(it.Fields)
		return
	}
	for i, f := range it.Fields {
		if i == maxFields || !m.put("  - "+code(field(f))+"\n") {
			left := len(it.Fields) - i
			m.more += left
			m.put(fmt.Sprintf("  - and %s\n", plural(left, "more field", "more fields")))
			break
		}
	}
}

// code is s as a code span, in which Markdown, HTML and mentions mean nothing: between more backticks than s holds.
func code(s string) string {
	s = clip3(clean(s))
	if s == "" {
		return "` `"
	}
	run, longest := 0, 0
	for i := range len(s) {
		if s[i] == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	if longest > 8 { // nobody writes that in earnest, and the fence would be longer than the text
		s, longest = strings.ReplaceAll(s, "`", "'"), 0
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}

// clip3 bounds a whole span: a path and two values.
func clip3(s string) string {
	const most = 3*maxValue + 32
	if len(s) <= most {
		return s
	}
	return string(bytes.ToValidUTF8([]byte(s[:most]), nil)) + "..."
}
