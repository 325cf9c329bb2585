package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/source"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// What is printed for people who may write claims the repository if it is as it was shown, and nothing else.
func TestClaimByHand(t *testing.T) {
	home := t.TempDir()
	run := func(dir, script string) (string, error) {
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "HOME="+home, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@shop.example", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@shop.example")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	forge, clone := filepath.Join(home, "it's the forge.git"), filepath.Join(home, "clone")
	if out, err := run(home, "git init -q --bare "+quoted(forge)+"; git clone -q "+quoted(forge)+" clone"); err != nil {
		t.Fatal(out)
	}
	now := func() source.Claim {
		id, _ := run(home, "git --git-dir "+quoted(forge)+" rev-parse -q --verify "+source.ClaimRef)
		raw, _ := run(home, "git --git-dir "+quoted(forge)+" cat-file commit "+source.ClaimRef)
		return source.ParseClaim(source.ID(strings.TrimSpace(id)), []byte(raw))
	}
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	claim := func(ring, shown string) (string, error) {
		var w strings.Builder
		printClaimCommands(&w, api.Claim{URL: forge, Ref: source.ClaimRef, Ring: ring, ID: shown})
		return run(clone, w.String())
	}
	if out, err := claim(a, ""); err != nil || now().Standing(a) != source.Own || now().By != "Ann" {
		t.Fatalf("%s%v: %+v", out, err, now())
	}
	first := now()
	if out, err := claim(b, ""); err == nil || now() != first {
		t.Errorf("a claim that was not shown was taken: %s", out)
	}
	if out, err := claim(b, string(first.ID)); err != nil || now().Standing(b) != source.Own {
		t.Errorf("%s%v: %+v", out, err, now())
	}
	if out, err := claim(a, string(first.ID)); err == nil || now().Standing(b) != source.Own {
		t.Errorf("a claim that was moved meanwhile was taken: %s", out)
	}
}

// How a ring stands to its repository, in a line.
func TestPrintClaim(t *testing.T) {
	since := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	for want, c := range map[string]api.Claim{
		"https://forge.example/r.git is claimed for this ring, 01234567, by shoal on n1, since 2026-11-22 14:00 UTC\n": {
			URL: "https://forge.example/r.git", Ring: "0123456789abcdef0123456789abcdef", Own: true, By: "shoal on n1", Since: since,
		},
		"activates nothing: because\n": {Held: "because", Holder: "x"},
		"warning: it could go wrong\n": {Warning: "it could go wrong"},
		"":                             {Standing: "unread"},
	} {
		var w strings.Builder
		if printClaim(&w, c); w.String() != want {
			t.Errorf("%q, want %q", w.String(), want)
		}
	}
	for url, want := range map[string]string{
		"https://ann:secret@forge.example/r.git": "https://forge.example/r.git", "https://forge.example/r.git": "https://forge.example/r.git",
		"ssh://git@forge.example/r.git": "ssh://git@forge.example/r.git", "git@forge.example:r.git": "git@forge.example:r.git", "/srv/r.git": "/srv/r.git",
	} {
		if got := withoutSecrets(url); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
	}
}
