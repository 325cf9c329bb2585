//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A machine that joins renders what runs itself before it runs any of it, an app that is held as an older commit had it
// too; once, and not again when its agent is restarted, or all of it with nobody else there.
func TestFeature_R6_JoinedNodeRendersItself(t *testing.T) {
	r := newRing(t, 2)
	first, second := r.nodes[0], r.nodes[1]
	first.Start()
	first.Image("probe:v1")
	files := map[string]string{}
	for i := range 20 {
		name := fmt.Sprintf("app%02d", i)
		files["apps/"+name+"/"+name+".cue"] = strings.NewReplacer("package web", "package "+name, "app: web", "app: "+name, "	nodePorts: http: 30080\n", "").Replace(webApp("probe:v1", name))
	}
	repo := first.Repository(files)
	repo.Push("twenty apps")
	first.Eventually(60*time.Second, func() error { return ready(first.Status(), 20) })
	repo.Write("apps/app00/app00.cue", strings.Replace(files["apps/app00/app00.cue"], "args:", "arg:", 1))
	repo.Write("apps/app01/app01.cue", strings.Replace(files["apps/app01/app01.cue"], "GREETING: \"app01\"", "GREETING: \"other\"", 1))
	repo.Push("one is wrong")
	first.Eventually(60*time.Second, func() error {
		if s := first.Status(); len(s.Environments) != 1 || fmt.Sprint(s.Environments[0].Held) != "[app00]" {
			return fmt.Errorf("%+v", s.Environments)
		}
		return ready(first.Status(), 20)
	})
	token, err := first.Client().CreateToken(context.Background(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	second.Args = append(second.Args, "--join", token.Address, "--token", token.Text)
	second.Start()
	if _, errs, code := first.Shoal("drain", first.name); code != 0 {
		t.Fatal(errs)
	}
	first.Eventually(60*time.Second, func() error { return first.readyOff(first.name, "app", 20) })
	said := func() (lines []string) {
		for line := range strings.Lines(second.output.String()) {
			if strings.Contains(line, "rendered what the ring runs") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return lines
	}
	if lines := said(); len(lines) != 1 || !strings.Contains(lines[0], `"commits":2`) {
		t.Errorf("rendered:\n%s", strings.Join(lines, "\n"))
	}
	t.Log(said())
	second.mark = second.instance()
	first.Stop()
	second.Reboot()
	second.Start()
	second.Eventually(60*time.Second, func() error {
		if n := len(second.programs("/probe", "GREETING=")); n != 20 {
			return fmt.Errorf("%d pods run after the reboot, with nobody else there", n)
		}
		return nil
	})
	if lines := said(); len(lines) != 1 {
		t.Errorf("rendered again:\n%s", strings.Join(lines, "\n"))
	}
}
