package nodeagent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/engine/plan"
)

// BenchmarkLook is one look at a machine on which 100 pods run and nothing happens.
func BenchmarkLook(b *testing.B) {
	m := newMachine(b)
	m.spins = false
	a := m.agent()
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "---\n%s", deployment(fmt.Sprintf("web%d", i)))
		m.images[fmt.Sprintf("web%d:v1", i)] = true
	}
	m.ring.Now = time.Now().UnixMilli()
	m.ring.Commit("dev", strings.TrimPrefix(text.String(), "---\n"))
	for ready := 0; ready < 100; {
		if _, err := a.reconcile(b.Context(), false); err != nil {
			b.Fatal(err)
		}
		for len(a.busy) > 0 {
			a.finish(b.Context(), <-a.done)
		}
		phases, _ := a.reports.due(time.Now())
		for _, phase := range phases {
			a.reports.append(b.Context(), phase)
		}
		ready = 0
		for p := range m.ring.State.Pods().Values() {
			if plan.Ready(&p.Status) {
				ready++
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.reconcile(b.Context(), false); err != nil {
			b.Fatal(err)
		}
	}
}
