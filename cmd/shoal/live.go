package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/nodeagent"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// live is a terminal with a line at its foot that is drawn anew while what is written goes on above it. Safe for
// concurrent use. Writes are expected to be whole lines.
type live struct {
	paint paint
	width func() int // in characters

	mu   sync.Mutex // guards what follows
	w    io.Writer
	foot string
}

// newLive is nil where w is no terminal: then lines are all there is.
func newLive(w io.Writer) *live {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(w) {
		return nil
	}
	return &live{paint: painter(w), w: w, width: func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 20 {
			return 80
		}
		return width
	}}
}

const eraseLine = "\r\x1b[K"

func (l *live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	if l.foot != "" {
		b.WriteString(eraseLine)
	}
	for line := range strings.Lines(string(p)) {
		text, newline := strings.CutSuffix(line, "\n")
		b.WriteString(l.colour(text))
		if newline {
			b.WriteByte('\n')
		}
	}
	b.WriteString(l.foot)
	if _, err := io.WriteString(l.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// colour paints a line by what it tells.
func (l *live) colour(line string) string {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(line, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has(" failed: ", " is not accepted", "not judged yet", "level=ERROR", ".cue:", ".yaml:"):
		return l.paint.red(line)
	case has(" waits: ", " waits for a node", "still rolling out", "level=WARN"):
		return l.paint.yellow(line)
	case has("ready: ", "all ready after", " ready after "):
		return l.paint.green(line)
	}
	return line
}

// set draws another foot; "" for none.
func (l *live) set(foot string) {
	if r := []rune(foot); len(r) >= l.width() {
		foot = string(r[:l.width()-1])
	}
	foot = l.paint.bold(foot)
	l.mu.Lock()
	defer l.mu.Unlock()
	if foot == l.foot {
		return
	}
	l.foot = foot
	_, _ = io.WriteString(l.w, eraseLine+foot)
}

// progressText is what is under way: Deployments that roll out, images that are fetched.
func progressText(rollouts []api.Rollout, pulls []api.Pull) string {
	var parts []string
	for _, r := range rollouts {
		if r.State == string(control.Progressing) {
			parts = append(parts, fmt.Sprintf("%s/%s %d/%d ready", r.Namespace, r.Name, r.Ready, r.Want))
		}
	}
	for _, p := range pulls {
		parts = append(parts, pullText(p))
	}
	return strings.Join(parts, "  ")
}

// showProgress keeps the foot of a terminal up to date until ctx ends. Elsewhere it prints how far pulls are.
func (m *machine) showProgress(ctx context.Context, l *live, w io.Writer) {
	showProgress(ctx, l, w, 100*time.Millisecond, func() (rollouts []api.Rollout, pulls []api.Pull) {
		m.ledger.View(func(s *cluster.State) { rollouts = nodeagent.Rollouts(s) })
		return rollouts, m.pulls.list()
	})
}

// showProgress shows what look finds: at the foot of a terminal so often, elsewhere how far pulls are every other second.
func showProgress(ctx context.Context, l *live, w io.Writer, every time.Duration, look func() ([]api.Rollout, []api.Pull)) {
	if l == nil {
		every = 2 * time.Second
	} else {
		defer l.set("")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rollouts, pulls := look()
		if l != nil {
			l.set(progressText(rollouts, pulls))
			continue
		}
		text := progressText(nil, pulls)
		if text != "" && text != last {
			fmt.Fprintln(w, text)
		}
		last = text
	}
}
