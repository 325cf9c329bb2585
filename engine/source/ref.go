package source

import (
	"errors"
	"fmt"
	"strings"
)

// Ref is a name and the commit it stands for.
type Ref struct {
	Name string
	ID   ID
}

// RefUpdate moves a ref by compare-and-swap on Old: "" as Old creates, "" as New deletes.
type RefUpdate struct {
	Name     string
	Old, New ID
}

// String is "refs/heads/main 1a2b3c4d5e6f..0a1b2c3d4e5f", with "-" for none.
func (u RefUpdate) String() string {
	word := func(id ID) string {
		if id == "" {
			return "-"
		}
		return id.Short()
	}
	return u.Name + " " + word(u.Old) + ".." + word(u.New)
}

// MaxRefName bounds the bytes of a ref's name.
const MaxRefName = 255

// CheckRefName holds name to the rules of git check-ref-format: two components or more, none that begins with a
// dot or ends in ".lock", no "..", "@{", "//", control character, space or any of ~^:?*[\, and no slash at
// either end or dot at the end. Names that are not UTF-8 or longer than MaxRefName are refused too.
func CheckRefName(name string) error {
	bad := func(why string) error { return fmt.Errorf("ref name %q: %s", cut(name), why) }
	switch {
	case name == "":
		return errors.New("ref name: is empty")
	case len(name) > MaxRefName:
		return bad(fmt.Sprintf("is %d bytes long; at most %d", len(name), MaxRefName))
	case strings.HasSuffix(name, "."):
		return bad("ends in a dot")
	case strings.Contains(name, ".."):
		return bad(`holds ".."`)
	case strings.Contains(name, "@{"):
		return bad(`holds "@{"`)
	case !strings.Contains(name, "/"):
		return bad(`has one component; expected one like "refs/heads/main"`)
	}
	for _, r := range name {
		if r < 0x21 || r == 0x7f || strings.ContainsRune("~^:?*[\\", r) || r == '\uFFFD' {
			return bad(fmt.Sprintf("holds %q", r))
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return bad("has an empty component")
		case part[0] == '.':
			return bad("has a component that begins with a dot")
		case strings.HasSuffix(part, ".lock"):
			return bad(`has a component that ends in ".lock"`)
		}
	}
	return nil
}

// FullRefName makes "refs/heads/main" of "main" and leaves a name that begins with "refs/" alone.
func FullRefName(name string) string {
	if strings.HasPrefix(name, "refs/") {
		return name
	}
	return "refs/heads/" + name
}
