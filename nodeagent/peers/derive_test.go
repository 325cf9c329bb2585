package peers

import (
	"context"
	"testing"
)

// TestDerive sees that a key of the ring is the same on all that hold the authority's, another for each purpose and authority, and
// nowhere else.
func TestDerive(t *testing.T) {
	a := begin(t).greets()
	b := a.join("b").greets()
	if _, err := b.Derive("x"); err == nil {
		t.Fatal("a node without the authority's key derives one")
	}
	a.book.letHold(b.id())
	if err := b.FetchKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	mine, err := a.Derive("x")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := b.Derive("x")
	if err != nil || !theirs.Equal(mine) {
		t.Errorf("another key on another holder: %v", err)
	}
	if other, err := a.Derive("y"); err != nil || other.Equal(mine) {
		t.Errorf("the same key for another purpose: %v", err)
	}
	if mine.Equal(a.trust.Load().signer().key) {
		t.Error("it is the authority's key")
	}
	fresh, err := a.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SignBy(fresh.Pin); err != nil {
		t.Fatal(err)
	}
	if other, err := a.Derive("x"); err != nil || other.Equal(mine) {
		t.Errorf("the same key of another authority: %v", err)
	}
}
