package ledger

// Changes gets a value after the state moved or the leader changed; several moves may give one. It is one channel
// for one reader; Subscribe gives more.
func (l *Ledger[S, O]) Changes() <-chan struct{} { return l.changes }

// Subscribe returns a channel that gets a value when the state moved or the leader changed; several moves may give
// one value. cancel ends it.
func (l *Ledger[S, O]) Subscribe() (changes <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	l.subMu.Lock()
	defer l.subMu.Unlock()
	l.subs[c] = true
	return c, func() {
		l.subMu.Lock()
		defer l.subMu.Unlock()
		delete(l.subs, c)
	}
}

func (l *Ledger[S, O]) changed() {
	l.subMu.Lock()
	defer l.subMu.Unlock()
	for c := range l.subs {
		select {
		case c <- struct{}{}:
		default: // it knows already
		}
	}
}
