package sealed

import (
	"fmt"
	"strings"
)

// Dir is where secrets lie in a repository, by environment.
const Dir = "secrets"

// Place is where a value belongs.
type Place struct {
	Environment string
	Name        string // of the Kubernetes Secret, and of the file less .yaml
	Key         string
}

// String is "secrets/dev/db.yaml: password".
func (p Place) String() string { return path(p.Environment, p.Name+".yaml") + ": " + p.Key }

func path(environment, file string) string { return Dir + "/" + environment + "/" + file }

// Check says what is wrong with the names of a place.
func (p Place) Check() error {
	if err := checkEnvironment(p.Environment); err != nil {
		return err
	}
	if err := checkName(p.Name); err != nil {
		return err
	}
	return checkKey(p.Key)
}

const (
	lower = "abcdefghijklmnopqrstuvwxyz0123456789-"
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func checkEnvironment(s string) error {
	if s == "" || len(s) > 63 || strings.Trim(s, lower) != "" || s[0] == '-' || s[len(s)-1] == '-' {
		return fmt.Errorf("%q is no name of an environment; expected up to 63 of a-z, 0-9 and -", short(s))
	}
	return nil
}

func checkName(s string) error {
	bad := s == "" || len(s) > maxName || strings.Trim(s, lower+".") != ""
	for part := range strings.SplitSeq(s, ".") {
		bad = bad || part == "" || part[0] == '-' || part[len(part)-1] == '-'
	}
	if bad {
		return fmt.Errorf("%q is no name of a Secret; expected up to %d of a-z, 0-9, - and .", short(s), maxName)
	}
	return nil
}

func checkKey(s string) error {
	if s == "" || len(s) > maxKey || strings.Trim(s, lower+upper+"._") != "" || s == "." || strings.HasPrefix(s, "..") {
		return fmt.Errorf("a key that no Secret may have; expected up to %d of letters, digits, -, _ and .", maxKey)
	}
	return nil
}

func short(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
