package source

import (
	"os/exec"
	"strings"
	"testing"
)

// hostileRefs are names that a host may advertise, and good ones.
var hostileRefs = []string{
	"refs/heads/main", "refs/heads/env/production", "refs/heads/ünï", "refs/tags/v1.2.3", "refs/heads/a.b", "refs/heads/@", "refs/heads/-x",
	"", "main", "/refs/heads/x", "refs/heads/", "refs//heads/x", "refs/heads/../../x", "refs/heads/..", "refs/heads/.x", "refs/heads/x.lock",
	"refs/heads/x.lock/y", "refs/heads/x.", "refs/heads/a b", "refs/heads/a~b", "refs/heads/a^b", "refs/heads/a:b", "refs/heads/a?b", "refs/heads/a*b",
	"refs/heads/a[b", "refs/heads/a\\b", "refs/heads/a@{b", "refs/heads/a\x7f", "refs/heads/a\tb", "refs/heads/a\x01", "@",
}

// TestFault_G13 agrees with git check-ref-format.
func TestFault_G13(t *testing.T) {
	for _, name := range hostileRefs {
		git := exec.Command("git", "check-ref-format", name).Run() == nil
		if err := CheckRefName(name); (err == nil) != git {
			t.Errorf("%q: git allows it: %v; CheckRefName: %v", name, git, err)
		}
	}
	for _, name := range []string{"refs/heads/" + strings.Repeat("x", 300), "refs/heads/\xff", "refs/heads/a\x00b"} {
		if CheckRefName(name) == nil {
			t.Errorf("%.40q passed", name)
		}
	}
}

func FuzzCheckRefName(f *testing.F) {
	for _, name := range hostileRefs {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckRefName(name) != nil {
			return
		}
		if strings.ContainsAny(name, "\x00\n\r\\ ") || strings.Contains(name, "..") || strings.HasPrefix(name, "/") || !strings.Contains(name, "/") {
			t.Fatalf("%q passed", name)
		}
	})
}
