package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/enginetest"
	"github.com/shoal-dev/shoal/engine/preview"
)

// TestFault_A12_NodesHaveTheKeysOfTheirPods: a node is given the key of an environment that a pod of runs on it, and of no other; a machine
// that is not of the ring none at all.
func TestFault_A12_NodesHaveTheKeysOfTheirPods(t *testing.T) {
	r := enginetest.NewRing(t)
	for n := 1; n <= 2; n++ {
		up := enginetest.Node(n)
		up.Key = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, ed25519.PublicKeySize))
		r.Must(cluster.Input{NodeUp: up})
	}
	r.Commit("dev", "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: main, image: \"x:1\"}]}\n")
	with, without := 0, 0
	for n := 1; n <= 3; n++ {
		node := enginetest.Node(n)
		for _, environment := range []string{"dev", "production", ""} {
			key, placed := mayHave(r.State, node.ID, environment)
			switch {
			case !placed:
				without++
			case environment != "dev" || !bytes.Equal(key, bytes.Repeat([]byte{byte(n)}, ed25519.PublicKeySize)):
				t.Errorf("node %d may have the key of %q: %x", n, environment, key)
			default:
				with++
			}
		}
	}
	if with != 1 || without != 8 {
		t.Errorf("%d may, %d may not", with, without)
	}

	// The key of all previews is given for the pods of those that may have it, and their environment's name is none.
	for _, fork := range []bool{true, false} {
		commit := r.Activation("pr-1", "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: main, image: \"x:1\"}]}\n")
		id := commit.Activate.Commit
		r.Must(cluster.Input{Preview: &cluster.Preview{Set: &preview.Environment{Name: "pr-1", Branch: "x", Head: id, Commit: id, Sandbox: preview.Sandbox{NoSecrets: fork}}}})
		r.Must(commit)
		r.Settle()
		for _, environment := range []string{"preview", "pr-1"} {
			given := 0
			for n := 1; n <= 3; n++ {
				if _, placed := mayHave(r.State, enginetest.Node(n).ID, environment); placed {
					given++
				}
			}
			if want := environment == "preview" && !fork; given == 1 != want || given > 1 {
				t.Errorf("fork %v: %d nodes may have the key of %s", fork, given, environment)
			}
		}
		r.Must(cluster.Input{Preview: &cluster.Preview{Drop: "pr-1", Why: "closed"}})
		r.Settle()
	}
}

// TestSecretFilesBelongToTheTreesOwner: who needs root for the node's key can commit what was written.
func TestSecretFilesBelongToTheTreesOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files can be given away by root only")
	}
	root := t.TempDir()
	if err := os.Chown(root, 1234, 1235); err != nil {
		t.Fatal(err)
	}
	v := &vault{root: root, environment: "dev"}
	if err := v.write("recipient", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"secrets", "secrets/dev", "secrets/dev/recipient"} {
		info, err := os.Stat(filepath.Join(root, at))
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != 1234 || s.Gid != 1235 {
			t.Errorf("%s belongs to %d:%d", at, s.Uid, s.Gid)
		}
	}
}
