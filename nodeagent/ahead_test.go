package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/shoal-dev/shoal/engine/plan"
)

// memImages are a node's images, and a diary of what was fetched ahead.
type memImages struct {
	begun time.Time

	mu      sync.Mutex // guards what follows
	here    map[string]bool
	fails   map[string]error
	takes   time.Duration
	pulling bool
	room    int64
	now     int // fetches at once
	diary   []string
}

func (m *memImages) say(format string, a ...any) {
	m.diary = append(m.diary, fmt.Sprintf("%ds ", int(time.Since(m.begun).Seconds()))+fmt.Sprintf(format, a...))
}

func (m *memImages) Present(ref, _ string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.here[ref]
}

func (m *memImages) PullAhead(ctx context.Context, _ *plan.Pod, ref, digest string, room int64) error {
	m.mu.Lock()
	m.now++
	if m.now > 1 {
		m.say("two at once")
	}
	takes, err := m.takes, m.fails[ref]
	m.mu.Unlock()
	gone := false
	select {
	case <-ctx.Done():
		gone = true
	case <-time.After(takes):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now--
	switch {
	case gone:
		m.say("%s given up", ref)
		return ctx.Err()
	case err != nil:
		m.say("%s failed", ref)
		return err
	case room < int64(len(ref)):
		m.say("%s is too large", ref)
		return ErrNoRoom
	}
	m.say("%s@%s", ref, digest)
	m.here[ref] = true
	return nil
}

func (m *memImages) Pulling() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pulling
}

func (m *memImages) Room() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.room, nil
}

// What a node does about images ahead of need: what it is to be ready for, and what became of it.
func TestAhead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		want  string // images of each pod, comma between containers: "a,b c"
		setup func(m *memImages)
		later func(m *memImages, want *string) // after 5 s
		after time.Duration
		got   string
	}{
		{"nothing", "", nil, nil, time.Hour, ""},
		{"one after the other, each once, what is never pulled not", "a,b b,never c", func(m *memImages) { m.takes = time.Second }, nil, time.Hour, "1s a@sha-a; 2s b@sha-b; 3s c@sha-c"},
		{"what is there is left alone", "a,b", func(m *memImages) { m.here["a"] = true }, nil, time.Hour, "0s b@sha-b"},
		{"what comes later", "a", nil, func(_ *memImages, want *string) { *want = "a b" }, time.Hour, "0s a@sha-a; 10s b@sha-b"},
		{"what pods wait for goes first", "a b", func(m *memImages) { m.takes = 3 * time.Second; m.pulling = true }, func(m *memImages, _ *string) { m.pulling = false }, time.Hour, "13s a@sha-a; 16s b@sha-b"},
		{"a fetch makes room, and goes on", "a", func(m *memImages) { m.takes = 8 * time.Second }, func(m *memImages, _ *string) {
			m.pulling = true
			time.AfterFunc(19*time.Second, func() { m.mu.Lock(); m.pulling = false; m.mu.Unlock() })
		}, time.Hour, "5s a given up; 33s a@sha-a"},
		{"one that fails keeps no other, and is tried less and less often", "a b", func(m *memImages) { m.fails["a"] = errors.New("no") }, nil, 10 * time.Minute, "0s a failed; 0s b@sha-b; 60s a failed; 180s a failed; 420s a failed"},
		{"and is forgotten with who wants it", "a", func(m *memImages) { m.fails["a"] = errors.New("no") }, func(_ *memImages, want *string) { *want = "" }, time.Hour, "0s a failed"},
		{"no room", "a", func(m *memImages) { m.room = 0 }, func(m *memImages, _ *string) { m.room = 100 }, time.Hour, "60s a@sha-a"},
		{"no room for that", "large b", func(m *memImages) { m.room = 2 }, nil, 2 * time.Minute, "0s large is too large; 0s b@sha-b; 60s large is too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memImages{begun: time.Now(), here: map[string]bool{}, fails: map[string]error{}, room: 100}
				if tt.setup != nil {
					tt.setup(m)
				}
				want := tt.want
				changes := make(chan struct{}, 1)
				a := &Ahead{Images: m, Changes: changes, Log: slog.New(slog.DiscardHandler), Want: func() (out []*plan.Pod, err error) {
					m.mu.Lock()
					defer m.mu.Unlock()
					for pod := range strings.FieldsSeq(want) {
						p := &plan.Pod{Spec: &corev1.PodSpec{}}
						p.Images = map[string]string{}
						for image := range strings.SplitSeq(pod, ",") {
							c := corev1.Container{Image: image}
							if image == "never" {
								c.ImagePullPolicy = corev1.PullNever
							}
							p.Spec.Containers = append(p.Spec.Containers, c)
							p.Images[image] = "sha-" + image
						}
						out = append(out, p)
					}
					return out, nil
				}}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- a.Run(ctx) }()
				if tt.later != nil {
					time.AfterFunc(5*time.Second, func() {
						m.mu.Lock()
						tt.later(m, &want)
						m.mu.Unlock()
						changes <- struct{}{}
					})
				}
				time.Sleep(tt.after)
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				if got := strings.Join(m.diary, "; "); got != tt.got {
					t.Errorf("%s\nwant %s", got, tt.got)
				}
			})
		})
	}
}
