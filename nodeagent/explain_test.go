package nodeagent

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/engine/cluster"
	"github.com/shoal-dev/shoal/nodeagent/api"
)

// explained is an answer as text, without the letters and the hashes that are drawn for pods.
func explained(w api.Why, err error) string {
	if err != nil {
		return err.Error()
	}
	text := strings.Join(append(append([]string{w.Object}, w.Lines...), w.Events...), "\n")
	return regexp.MustCompile(`(web|bad|report)(-[a-z0-9]{5,})+`).ReplaceAllString(text, "$1-x")
}

// Why goes from what runs to the file and line it came from, and says what went wrong.
func TestWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := running(t)
		for _, image := range []string{"web:v1", "report:v1"} {
			ds.m.images[image] = true
		}
		ds.m.pullErr["bad:v1"] = errors.New("no such host")
		tick := func() {
			ds.m.mu.Lock()
			ds.m.ring.Now = time.Now().UnixMilli()
			ds.m.ring.Must(cluster.Input{Tick: &cluster.Tick{}})
			ds.m.mu.Unlock()
			nudge(ds.m.changes)
			synctest.Wait()
		}
		ds.u.push(joined(deployment("web"), service("web"), deployment("bad"), cronJob("report"), much))
		ds.look()
		nudge(ds.m.changes)
		synctest.Wait()
		time.Sleep(61 * time.Second)
		tick()
		why := func(kind, namespace, name string) string {
			t.Helper()
			return explained(ds.n.Why(t.Context(), kind, namespace, name))
		}
		const origin = `
environment dev, app web (apps/web/)
written at apps/web/web.yaml:`
		const commit = `
as of commit 010000000000 "subject" by Ann <ann@shop.example>, 0001-01-01 00:00:00`
		expect(t, "a Deployment", why("deploy", "dev", "web"), `Deployment dev/web`+origin+"1"+commit+`
pod web-x: Running, 1/1 ready, 0 restarts`)
		expect(t, "a name that is a Deployment's and a Service's", why("", "", "web"), why("deployment", "dev", "web"))
		expect(t, "a Service", why("svc", "", "web"), `Service dev/web`+origin+"10"+commit+`
reached at 10.43.0.2, ports 80/TCP, 1 endpoints`)
		expect(t, "a CronJob, over its run", why("cj", "dev", "report"), `CronJob dev/report`+origin+"24"+commit+`
pod report-x: Running, 1/1 ready, 0 restarts`)
		expect(t, "a pod that finds no node", why("po", "dev", "much"), `Pod dev/much
Pending, 0/1 ready, 0 restarts
0/1 nodes: insufficient memory: asks 1024Gi, 8Gi free
not placed: 0/1 nodes: insufficient memory: asks 1024Gi, 8Gi free`+origin+"31"+commit)
		expect(t, "a pod whose image is nowhere", why("pod", "", ds.pod("bad").Name), `Pod dev/bad-x
ImagePullBackOff, 0/1 ready, 0 restarts
pull bad:v1: no such host
on node n1: the only node
made for ReplicaSet dev/bad-x`+origin+"15"+commit+`
00:00:00.000 Pod dev/bad-x: Sandbox: the only node
00:00:00.000 Pod dev/bad-x: ErrImagePull: pull bad:v1: no such host
00:00:31.750 Pod dev/bad-x: ImagePullBackOff: pull bad:v1: no such host (7 times)`)

		expect(t, "nothing of the name", why("", "", "nobody"), "object nobody does not exist: not found")
		expect(t, "another kind of the name", why("cm", "dev", "web"), "ConfigMap dev/web does not exist: not found")
		expect(t, "a kind that is not known", why("ingress", "", "web"), `kind "ingress" is not known here; known are Pod, ReplicaSet, Deployment, Job, CronJob, Service, ConfigMap, Secret and Namespace`)

		// A commit that is wrong is the reason that something new is not there, and that something old is held.
		ds.u.push("problem")
		ds.look()
		expect(t, "what a bad commit would have brought", why("", "", "nobody"), "object nobody does not exist; commit 020000000000 of dev has problems:\napps/web/web.cue:3: wrong")
		if got := why("svc", "dev", "web"); !strings.Contains(got, "\nthe app is held at its last good version:\n  apps/web/web.cue:3: wrong\n") {
			t.Error(got)
		}

		// One name in two environments is asked for by its namespace.
		ds.u.push(joined(deployment("web"), service("web")))
		ds.u.trailer = "Shoal-Allow-Delete: all"
		ds.u.declared[ds.u.head] = append(ds.u.declared[ds.u.head], dev, prod)
		ds.u.pushTo(prod.Ref, deployment("web"))
		ds.look()
		synctest.Wait()
		expect(t, "one of two", why("deploy", "", "web"), "web fits several: Deployment dev/web, Deployment prod/web")
		if got := why("deploy", "prod", "web"); !strings.Contains(got, "environment prod, app web") {
			t.Error(got)
		}
	})
}
