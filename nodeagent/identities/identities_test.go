package identities

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/internal/sealed"
)

func nodeKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func open(t *testing.T, dir string, node byte, ask func(ctx context.Context, environment, recipient string) ([]byte, error)) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, Key: nodeKey(node), Ask: ask})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newID(t *testing.T) *sealed.Identity {
	t.Helper()
	id, err := sealed.NewIdentity("dev")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// secret is a sealed Secret with one value, and with the key sealed to a node; 0: without it.
func secret(t *testing.T, id *sealed.Identity, node byte) *corev1.Secret {
	t.Helper()
	f := sealed.File{Environment: "dev", Name: "db", Recipient: id.Recipient(), Type: "Opaque"}
	if _, err := id.Set(&f, "password", sealed.NewPlain([]byte("swordfish"))); err != nil {
		t.Fatal(err)
	}
	o := sealed.Object{File: f}
	if node != 0 {
		o.Identity = sealedTo(t, id, node)
	}
	s := &corev1.Secret{Type: "Opaque", Data: o.Data()}
	s.Namespace, s.Name, s.Annotations = "dev", "db", o.Annotations()
	return s
}

func sealedTo(t *testing.T, id *sealed.Identity, node byte) []byte {
	t.Helper()
	to, err := sealed.NewNodeRecipient(nodeKey(node).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	b, err := id.SealTo(to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opens(t *testing.T, s *Store, secret *corev1.Secret) string {
	t.Helper()
	values, err := s.Open(secret)
	if err != nil {
		return err.Error()
	}
	return string(values["password"])
}

// TestFeature_G11_FromGitAndDisk: a node opens what is sealed to it, and after a restart also without what was beside it; a disk without the
// node's key opens nothing.
func TestFeature_G11_FromGitAndDisk(t *testing.T) {
	dir, id := t.TempDir(), newID(t)
	if got := opens(t, open(t, dir, 1, nil), secret(t, id, 1)); got != "swordfish" {
		t.Error(got)
	}
	if got := opens(t, open(t, dir, 1, nil), secret(t, id, 0)); got != "swordfish" {
		t.Error("from disk:", got)
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if info.Mode().Perm() != 0o600 || bytes.Contains(b, []byte("SECRET-KEY")) {
			t.Errorf("%s: %s %s", path, info.Mode(), b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := opens(t, open(t, dir, 2, nil), secret(t, id, 1))
	if want := "this node has no key of environment dev: identity.age: open identity of dev: is sealed for somebody else; what is kept on disk: open identity of dev: is sealed for somebody else"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := opens(t, open(t, t.TempDir(), 2, nil), secret(t, id, 0)); got != "this node has no key of environment dev: there is no identity.age beside it" {
		t.Error(got)
	}
	// What a crash or a disk has made of the file is said, and mended by what is in Git.
	file := filepath.Join(dir, "dev", id.Recipient()+".age")
	if err := os.WriteFile(file, []byte("-----BEGIN AGE"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := opens(t, open(t, dir, 1, nil), secret(t, id, 0)); !strings.Contains(got, "what is kept on disk: open identity of dev: is ") {
		t.Error(got)
	}
	if got := opens(t, open(t, dir, 1, nil), secret(t, id, 1)); got != "swordfish" {
		t.Error(got)
	}
	if got := opens(t, open(t, dir, 1, nil), secret(t, id, 0)); got != "swordfish" {
		t.Error("mended:", got)
	}
}

// TestFault_A9_WrongIdentity: an identity.age that is not the values' does not open them, and says so.
func TestFault_A9_WrongIdentity(t *testing.T) {
	id, other := newID(t), newID(t)
	s := secret(t, id, 0)
	s.Annotations[sealed.AnnotationIdentity] = string(sealedTo(t, other, 1))
	got := opens(t, open(t, t.TempDir(), 1, nil), s)
	if !strings.HasPrefix(got, "this node has no key of environment dev: identity.age: open identity of dev: is not that of the values' recipient age1") {
		t.Error(got)
	}
	s = secret(t, id, 1)
	s.Data["password"] = []byte("swordfish")
	if got := opens(t, open(t, t.TempDir(), 1, nil), s); got != "key password: is not sealed" {
		t.Error(got)
	}
}

// TestFeature_G11_FromAnotherNode: what this node cannot have by itself it asks others for, again and again, and it is told when it has come.
func TestFeature_G11_FromAnotherNode(t *testing.T) {
	id := newID(t)
	giver := open(t, t.TempDir(), 1, nil)
	if got := opens(t, giver, secret(t, id, 1)); got != "swordfish" {
		t.Fatal(got)
	}
	var asked atomic.Int32
	dir := t.TempDir()
	s := open(t, dir, 2, func(_ context.Context, environment, recipient string) ([]byte, error) {
		switch asked.Add(1) {
		case 1:
			return nil, errors.New("n1: no pod of environment dev is placed on you")
		case 2: // sealed to the wrong node
			return giver.SealedTo(nodeKey(3).Public().(ed25519.PublicKey), environment, recipient)
		}
		return giver.SealedTo(nodeKey(2).Public().(ed25519.PublicKey), environment, recipient)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	if got := opens(t, s, secret(t, id, 1)); !strings.HasSuffix(got, "is sealed for somebody else; other nodes are being asked") {
		t.Error(got)
	}
	<-s.Events()
	if got := opens(t, s, secret(t, id, 1)); !strings.HasSuffix(got, "is sealed for somebody else; n1: no pod of environment dev is placed on you") {
		t.Error(got)
	}
	for deadline := time.Now().Add(10 * time.Second); opens(t, s, secret(t, id, 1)) != "swordfish"; {
		select {
		case <-s.Events():
		case <-time.After(time.Until(deadline)):
			t.Fatal(opens(t, s, secret(t, id, 1)))
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := opens(t, open(t, dir, 2, nil), secret(t, id, 1)); got != "swordfish" {
		t.Error("after a restart:", got)
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times", asked.Load())
	}
	for _, c := range [][2]string{{"dev", newID(t).Recipient()}, {"../dev", id.Recipient()}, {"dev", "../" + id.Recipient()}, {"dev", ""}} {
		if b, err := giver.SealedTo(nodeKey(2).Public().(ed25519.PublicKey), c[0], c[1]); err == nil || b != nil {
			t.Errorf("%q was given", c)
		}
	}
}

// TestIdentitiesAreBounded: of many rotations the newest keys stay.
func TestIdentitiesAreBounded(t *testing.T) {
	dir := t.TempDir()
	var last *sealed.Identity
	for i := range kept + 4 {
		last = newID(t)
		if got := opens(t, open(t, dir, 1, nil), secret(t, last, 1)); got != "swordfish" {
			t.Fatal(got)
		}
		at := time.Now().Add(time.Duration(i-1000) * time.Second)
		if err := os.Chtimes(filepath.Join(dir, "dev", last.Recipient()+".age"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "dev"))
	if err != nil || len(entries) != kept {
		t.Error(len(entries), err)
	}
	if got := opens(t, open(t, dir, 1, nil), secret(t, last, 0)); got != "swordfish" {
		t.Error(got)
	}
	if s := fmt.Sprintf("%v %+v", last, open(t, dir, 1, nil).node); strings.Contains(s, "AGE-") {
		t.Error(s)
	}
}

// TestFault_P2_IdentityOfAnotherEnvironment: who copies an environment's recipient, identity and values to where previews' lie gets nothing of
// it, of this node and of others.
func TestFault_P2_IdentityOfAnotherEnvironment(t *testing.T) {
	id := newID(t)
	s := open(t, t.TempDir(), 1, nil)
	if got := opens(t, s, secret(t, id, 1)); got != "swordfish" {
		t.Fatal(got)
	}
	copied := secret(t, id, 1)
	copied.Annotations[sealed.AnnotationEnvironment] = "preview"
	if got, want := opens(t, s, copied), `this node has no key of environment preview: identity.age: open identity of preview: is that of another environment, "dev"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := s.SealedTo(nodeKey(2).Public().(ed25519.PublicKey), "preview", id.Recipient()); err == nil {
		t.Error("another node was given it")
	}
	// With the key of previews in place of the copied one, the values are still another's.
	previews, err := sealed.NewIdentity("preview")
	if err != nil {
		t.Fatal(err)
	}
	copied.Annotations[sealed.AnnotationRecipient], copied.Annotations[sealed.AnnotationIdentity] = previews.Recipient(), string(sealedTo(t, previews, 1))
	if got := opens(t, s, copied); !strings.HasPrefix(got, "open secrets/preview/db.yaml: password: ") {
		t.Error(got)
	}
}
