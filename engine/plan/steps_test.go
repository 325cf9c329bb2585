package plan

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/control"
)

const second, minute int64 = 1000, 60_000

// begin is the time at which the tests' pods were made: any, but not 0.
const begin = 1_000_000 * second

// podOf makes a pod of namespace dev from the words of its spec; its restart policy is Always unless they say.
func podOf(t testing.TB, id control.PodID, spec string) *Pod {
	t.Helper()
	p := &Pod{Pod: control.Pod{ID: id, Namespace: "dev", Name: "web-" + string(id)}, Spec: &corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways}}
	if err := yaml.UnmarshalStrict([]byte(spec), p.Spec); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return p
}

const (
	one      = `{containers: [{name: app, image: a}]}`
	oneNever = `{restartPolicy: Never, containers: [{name: app, image: a}]}`
	oneFail  = `{restartPolicy: OnFailure, containers: [{name: app, image: a}]}`
	inits    = `{initContainers: [{name: i1, image: a}, {name: i2, image: a}], containers: [{name: app, image: a}]}`
	sidecars = `{initContainers: [{name: side, image: a, restartPolicy: Always}, {name: i2, image: a}], containers: [{name: app, image: a}]}`
)

func up(containers ...*Container) *Seen {
	s := &Seen{Namespaces: true, Linked: true, Containers: map[string]*Container{}}
	for _, c := range containers {
		name, _, _ := strings.Cut(c.ID, "-")
		s.Containers[name] = c
	}
	return s
}

// The ID of a container starts with its name.
func runs(id string) *Container { return &Container{ID: id, State: Running, Started: begin} }

func ended(id string, code int32, attempt, streak int) *Container {
	return &Container{ID: id, State: Exited, ExitCode: code, Attempt: attempt, Streak: streak, Started: begin, Finished: begin + second}
}

func lines(steps []Action, wake int64) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.String())
		if s.Op == Stop {
			fmt.Fprintf(&b, "; %d s", s.Grace)
		}
		if s.Op == Start && s.Streak > 0 {
			fmt.Fprintf(&b, "; streak %d", s.Streak)
		}
		b.WriteString("\n")
	}
	if wake != 0 {
		fmt.Fprintf(&b, "look again at %d ms\n", wake-begin)
	}
	return b.String()
}

func TestSteps(t *testing.T) {
	deleting := func(p *Pod) { p.Deleting, p.Grace, p.Why = begin, 30, "scaled down" }
	tests := []struct {
		name  string
		spec  string
		seen  *Seen
		now   int64 // after begin
		facts Facts
		with  func(*Pod)
		want  string
	}{
		{"new", one, nil, 0, Facts{}, func(p *Pod) { p.Reason = "most room" }, `
sandbox  dev/web-p  # most room
pull     dev/web-p/app  # the image is not on this node
start    dev/web-p/app  # not started yet
`},
		{"image is here", one, up(), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app  # not started yet
`},
		{"another digest is here", one, up(), 0, Facts{Images: map[string]bool{"a": true, "a@sha256:1": true}}, func(p *Pod) { p.Images = map[string]string{"a": "sha256:2"} }, `
pull     dev/web-p/app  # the image is not on this node
start    dev/web-p/app  # not started yet
`},
		{"ran before the machine was started anew", one, nil, 0, Facts{Images: map[string]bool{"a": true}, Past: map[control.PodID]map[string]int{"p": {"app": 3, "other": 7}}}, nil, `
sandbox  dev/web-p  # placed here
remove   dev/web-p/app #1  # only the last two instances are kept
start    dev/web-p/app #3  # its machine was started anew
`},
		{"always pull", `{containers: [{name: app, image: a, imagePullPolicy: Always}]}`, up(), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
pull     dev/web-p/app  # imagePullPolicy is Always
start    dev/web-p/app  # not started yet
`},
		{"runs", one, up(runs("app-0")), 0, Facts{}, nil, "\n"},
		{"busy", one, nil, 0, Facts{Busy: map[control.PodID]bool{"p": true}}, nil, "\n"},
		{"made, not started", one, up(&Container{ID: "app-1", State: Created, Attempt: 1, Streak: 2}), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app #1  # made, not started; streak 2
`},
		{"link lost", one, &Seen{Namespaces: true, Containers: up(runs("app-0")).Containers}, 0, Facts{}, nil, `
relink   dev/web-p  # its link, address or route is missing
`},
		{"host network has no link", `{hostNetwork: true, containers: [{name: app, image: a}]}`, &Seen{Namespaces: true, Containers: up(runs("app-0")).Containers}, 0, Facts{}, nil, "\n"},
		{"volumes are stale", one, up(runs("app-0")), 0, Facts{Stale: map[control.PodID]bool{"p": true}}, nil, `
refresh  dev/web-p  # what its volumes show may have changed
`},
		{"volumes of a new pod come with its sandbox", one, nil, 0, Facts{Stale: map[control.PodID]bool{"p": true}, Images: map[string]bool{"a": true}}, nil, `
sandbox  dev/web-p  # placed here
start    dev/web-p/app  # not started yet
`},

		{"first init container", inits, up(), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/i1  # not started yet
`},
		{"init container at work", inits, up(runs("i1-0")), 0, Facts{}, nil, "\n"},
		{"second init container", inits, up(ended("i1-0", 0, 0, 0)), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/i2  # not started yet
`},
		{"init containers done", inits, up(ended("i1-0", 0, 0, 0), ended("i2-0", 0, 0, 0)), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app  # not started yet
`},
		{"remains of init containers were collected", inits, up(ended("app-0", 1, 0, 0)), 2 * second, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app #1  # exited with 1; streak 1
`},
		{"init container failed", inits, up(ended("i1-0", 1, 0, 0)), 2 * second, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/i1 #1  # exited with 1; streak 1
`},
		{"init container failed for good", `{restartPolicy: Never, initContainers: [{name: i1, image: a}], containers: [{name: app, image: a}]}`, up(ended("i1-0", 1, 0, 0)), minute, Facts{}, nil, "\n"},
		{"sidecar first", sidecars, up(), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/side  # not started yet
`},
		{"sidecar's startup probe holds the next back", sidecars, up(runs("side-0")), 0, Facts{Health: map[string]Health{"side-0": {NotStarted: true}}}, nil, "\n"},
		{"sidecar is up", sidecars, up(runs("side-0")), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/i2  # not started yet
`},
		{"sidecar ended, with 0", sidecars, up(ended("side-0", 0, 0, 0), ended("i2-0", 0, 0, 0), runs("app-0")), 2 * second, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/side #1  # exited with 0; streak 1
`},

		{"Always restarts after 0", one, up(ended("app-0", 0, 0, 0)), 2 * second, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app #1  # exited with 0; streak 1
`},
		{"Never does not restart", oneNever, up(ended("app-0", 1, 0, 0)), minute, Facts{}, nil, "\n"},
		{"OnFailure does not restart after 0", oneFail, up(ended("app-0", 0, 0, 0)), minute, Facts{}, nil, "\n"},
		{"OnFailure restarts after 3", oneFail, up(ended("app-0", 3, 0, 0)), minute, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app #1  # exited with 3; streak 1
`},
		{"second failure waits 10 s", one, up(ended("app-1", 1, 1, 1)), 5 * second, Facts{}, nil, `
look again at 11000 ms
`},
		{"the clock was set back by an hour since: nobody waits that long", one, up(ended("app-1", 1, 1, 1)), -60 * minute, Facts{Images: map[string]bool{"a": true}}, nil, `
remove   dev/web-p/app  # only the last two instances are kept
start    dev/web-p/app #2  # exited with 1; streak 2
`},
		{"10 s are over", one, up(ended("app-1", 1, 1, 1)), 11 * second, Facts{Images: map[string]bool{"a": true}}, nil, `
remove   dev/web-p/app  # only the last two instances are kept
start    dev/web-p/app #2  # exited with 1; streak 2
`},
		{"only two instances are kept", one, up(ended("app-2", 1, 2, 1)), minute, Facts{Images: map[string]bool{"a": true}}, nil, `
remove   dev/web-p/app #1  # only the last two instances are kept
start    dev/web-p/app #3  # exited with 1; streak 2
`},
		{"ten minutes clear the account", one, up(&Container{ID: "app-9", State: Exited, ExitCode: 1, Streak: 9, Started: begin - 10*minute, Finished: begin}), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app #1  # exited with 1; streak 1
`},
		{"less than ten minutes do not", one, up(&Container{ID: "app-9", State: Exited, ExitCode: 1, Streak: 9, Started: begin - 10*minute + 1, Finished: begin}), 0, Facts{}, nil, `
look again at 300000 ms
`},
		{"one never begun has no run to clear the account", one, up(&Container{ID: "app-9", State: Exited, ExitCode: 128, Streak: 9, Finished: begin}), 0, Facts{}, nil, `
look again at 300000 ms
`},
		{"out of memory", one, up(&Container{ID: "app-0", State: Exited, ExitCode: 137, Signal: 9, OOM: true, Started: begin, Finished: begin}), 0, Facts{Images: map[string]bool{"a": true}}, nil, `
start    dev/web-p/app #1  # out of memory; streak 1
`},

		{"liveness failed", one, up(runs("app-0")), 0, Facts{Health: map[string]Health{"app-0": {Failed: "liveness: connection refused"}}}, nil, `
stop     dev/web-p/app  # liveness: connection refused; 30 s
`},
		{"liveness failed, its own grace", `{terminationGracePeriodSeconds: 9, containers: [{name: app, image: a}]}`, up(runs("app-0")), 0, Facts{Health: map[string]Health{"app-0": {Failed: "liveness", Grace: new(int64)}}}, nil, `
stop     dev/web-p/app  # liveness; 0 s
`},

		{"deadline ahead", `{activeDeadlineSeconds: 60, containers: [{name: app, image: a}]}`, up(runs("app-0")), 59 * second, Facts{}, startedAt(begin), `
look again at 60000 ms
`},
		{"a volume outgrew its limit", one, over(up(runs("app-0"))), 0, Facts{}, nil, `
stop     dev/web-p/app  # evicted: Usage of EmptyDir volume "v" exceeds the limit "1Mi".; 1 s
`},
		{"evicted and stopped", one, over(up(ended("app-0", 137, 0, 0))), 60 * second, Facts{}, nil, "\n"},
		{"deadline passed", `{activeDeadlineSeconds: 60, containers: [{name: app, image: a}]}`, up(runs("app-0")), 60 * second, Facts{}, startedAt(begin), `
stop     dev/web-p/app  # activeDeadlineSeconds passed; 30 s
`},

		{"told to stop", one, up(runs("app-0")), 0, Facts{}, deleting, `
stop     dev/web-p/app  # scaled down; 30 s
`},
		{"told to stop, the agent was restarted", one, up(runs("app-0")), 20*second + 1, Facts{}, deleting, `
stop     dev/web-p/app  # scaled down; 10 s
`},
		{"told to stop, the grace is over", one, up(runs("app-0")), minute, Facts{}, deleting, `
stop     dev/web-p/app  # scaled down; 0 s
`},
		{"a clock that is behind lends no grace", one, up(runs("app-0")), -minute, Facts{}, deleting, `
stop     dev/web-p/app  # scaled down; 30 s
`},
		{"a clock that is ahead takes none away", one, up(runs("app-0")), 60 * minute, Facts{Ring: begin + 10*second}, deleting, `
stop     dev/web-p/app  # scaled down; 20 s
`},
		{"stopped", one, up(ended("app-0", 0, 0, 0)), 0, Facts{}, deleting, `
teardown dev/web-p  # scaled down
`},
		{"told to stop before it began", one, nil, 0, Facts{}, deleting, `
teardown dev/web-p  # scaled down
`},
		{"sidecars stop after the others", sidecars, up(runs("side-0"), ended("i2-0", 0, 0, 0), runs("app-0")), 0, Facts{}, deleting, `
stop     dev/web-p/app  # scaled down; 30 s
`},
		{"sidecars stop the last first", `{initContainers: [{name: s1, image: a, restartPolicy: Always}, {name: s2, image: a, restartPolicy: Always}], containers: [{name: app, image: a}]}`, up(runs("s1-0"), runs("s2-0"), ended("app-0", 0, 0, 0)), 0, Facts{}, deleting, `
stop     dev/web-p/s2  # scaled down; 30 s
`},
		{"one that was made and not started goes too", one, up(&Container{ID: "app-0", State: Created}), 0, Facts{}, deleting, `
stop     dev/web-p/app  # scaled down; 30 s
`},
		{"an ended pod gives back what it holds", one, up(ended("app-0", 1, 0, 0)), minute, Facts{}, func(p *Pod) { p.Pod.Status.Phase = corev1.PodFailed }, `
release  dev/web-p  # the pod has ended
`},
		{"a released pod stays as it is", one, &Seen{Containers: up(ended("app-0", 1, 0, 0)).Containers}, minute, Facts{}, func(p *Pod) { p.Pod.Status.Phase = corev1.PodFailed }, "\n"},
		{"a released pod is told to stop", one, &Seen{Containers: up(ended("app-0", 1, 0, 0)).Containers}, minute, Facts{}, func(p *Pod) { p.Pod.Status.Phase = corev1.PodFailed; deleting(p) }, `
teardown dev/web-p  # scaled down
`},
		{"an ended pod's sidecar stops", sidecars, up(runs("side-0"), ended("app-0", 0, 0, 0)), minute, Facts{}, func(p *Pod) { p.Pod.Status.Phase = corev1.PodSucceeded }, `
stop     dev/web-p/side  # the pod has ended; 30 s
`},
		{"given up, and it still runs", "{}", up(runs("app-0"), runs("side-0")), 0, Facts{}, givenUpPod, `
stop     dev/web-p/app  # it was given up while its node was lost; 10 s
stop     dev/web-p/side  # it was given up while its node was lost; 10 s
`},
		{"given up, and it has been stopped", "{}", up(ended("app-0", 137, 0, 0)), 0, Facts{}, givenUpPod, `
teardown dev/web-p  # it was given up while its node was lost
`},
		{"given up, and nothing is left", "{}", nil, 0, Facts{}, givenUpPod, `
teardown dev/web-p  # it was given up while its node was lost
`},
		{"the lease ends", one, up(runs("app-0")), 0, Facts{Lease: Lease{Stop: true, Grace: 2, NoStart: true}}, fenced, `
stop     dev/web-p/app  # this node hears of no majority: one of its kind may soon run elsewhere; 2 s
`},
		{"the lease has ended", one, up(ended("app-0", 137, 0, 0)), 0, Facts{Lease: Lease{Stop: true, NoStart: true}}, fenced, "\n"},
		{"the lease is back, and not all is known", one, up(ended("app-0", 137, 0, 0)), minute, Facts{Lease: Lease{NoStart: true}}, fenced, "\n"},
		{"the lease is back", one, up(ended("app-0", 137, 0, 0)), minute, Facts{Images: map[string]bool{"a": true}}, fenced, `
start    dev/web-p/app #1  # exited with 137; streak 1
`},
		{"not rendered here", one, nil, 0, Facts{Images: map[string]bool{"a": true}, Unrendered: map[control.PodID]Trouble{"p": {Reason: "NotRendered"}}}, nil, "\n"},
		{"running, and not rendered here as it is now", one, up(ended("app-0", 137, 0, 0)), minute, Facts{
			Images: map[string]bool{"a": true}, Stale: map[control.PodID]bool{"p": true}, Unrendered: map[control.PodID]Trouble{"p": {Reason: "NotRendered"}},
		}, nil, `
start    dev/web-p/app #1  # exited with 137; streak 1
`},
		{"kept in isolation", one, up(runs("app-0")), 0, Facts{Lease: Lease{Stop: true, NoStart: true}}, func(p *Pod) { fenced(p); p.Kept = true }, "\n"},
		{"others know of no lease", one, up(runs("app-0")), 0, Facts{Lease: Lease{Stop: true, NoStart: true}}, nil, "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := podOf(t, "p", tt.spec)
			if tt.with != nil {
				tt.with(p)
			}
			have := Have{}
			if tt.seen != nil {
				have["p"] = tt.seen
			}
			tt.facts.Now = begin + tt.now
			if got := "\n" + lines(Steps(Want{"p": p}, have, tt.facts)); got != tt.want {
				t.Errorf("got:%swant:%s", got, tt.want)
			}
		})
	}
}

func fenced(p *Pod) { p.Fenced = true }

func givenUpPod(p *Pod) {
	p.GivenUp, p.Deleting, p.Grace, p.Why = true, 1, 10, "it was given up while its node was lost"
}

func startedAt(ms int64) func(*Pod) {
	return func(p *Pod) { p.Pod.Status.StartTime = at(ms) }
}

// What nobody told the node of is not its to end; pods come in the order of their ids, and the earliest look wins.
func TestStepsOfSeveral(t *testing.T) {
	want := Want{"b": podOf(t, "b", one), "a": podOf(t, "a", one), "c": podOf(t, "c", oneNever)}
	have := Have{"a": up(ended("app-5", 1, 5, 5)), "b": up(ended("app-1", 1, 1, 1)), "stranger": up(runs("app-0"))}
	got := lines(Steps(want, have, Facts{Now: begin, Images: map[string]bool{"a": true}}))
	const is = `sandbox  dev/web-c  # placed here
start    dev/web-c/app  # not started yet
look again at 11000 ms
`
	if got != is {
		t.Errorf("got:\n%swant:\n%s", got, is)
	}
}

func TestBackoff(t *testing.T) {
	var got []int64
	for streak := range 10 {
		got = append(got, Backoff(streak)/second)
	}
	if s := fmt.Sprint(got, Backoff(1<<40)/second); s != "[0 0 10 20 40 80 160 300 300 300] 300" {
		t.Error(s)
	}
}
