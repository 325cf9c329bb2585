package nodeagent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// hookedApp is a deployment whose container has these hooks and this grace, and what leads to it.
func hookedApp(lifecycle, grace string) string {
	text := strings.Replace(deployment("web"), "imagePullPolicy: IfNotPresent", "imagePullPolicy: IfNotPresent, lifecycle: "+lifecycle, 1)
	return strings.Replace(text, "spec: {containers", "spec: {terminationGracePeriodSeconds: "+grace+", containers", 1) + "---\n" + service("web")
}

const other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n"

// What is to be done before a container is stopped takes from its grace, all of it at most, and holds nothing up when it fails.
func TestPreStop(t *testing.T) {
	for _, c := range []struct{ name, hook, grace, want string }{
		{"short", "{preStop: {sleep: {seconds: 3}}}", "30", "5s 0 endpoints\n5.2s hook of app\n8.2s hook of app is over: <nil>\n8.2s stop web:v1, 27 s\n8.2s gone"},
		{"all of it", "{preStop: {sleep: {seconds: 8}}}", "8", "5s 0 endpoints\n5.2s hook of app\n13.2s hook of app is over: <nil>\n13.2s stop web:v1, 2 s\n13.2s gone"},
		{"too long", "{preStop: {exec: {command: [sleep]}}, postStart: {exec: {command: ['true']}}}", "8", "5s 0 endpoints\n5.2s hook of app\n5.2s stop web:v1, 8 s\n5.2s gone"},
		{"fails", "{preStop: {exec: {command: ['false']}}}", "8", "5s 0 endpoints\n5.2s hook of app\n5.2s stop web:v1, 8 s\n5.2s gone"},
		{"none", "{}", "8", "5s 0 endpoints\n5.2s stop web:v1, 8 s\n5.2s gone"},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t)
			m.images["web:v1"] = true
			m.run()
			m.commit(hookedApp(c.hook, c.grace) + "---\n" + other)
			time.Sleep(5 * time.Second)
			m.did()
			m.commit(other)
			time.Sleep(time.Minute)
			expect(t, c.name, m.did(), c.want)
		})
	}
}

// A container that ends while its preStop hook sleeps is not waited for.
func TestPreStopOfWhatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.images["web:v1"] = true
		m.run()
		m.commit(hookedApp("{preStop: {sleep: {seconds: 20}}}", "30") + "---\n" + other)
		time.Sleep(5 * time.Second)
		m.did()
		m.commit(other)
		time.Sleep(3 * time.Second)
		m.exit("web:v1", 0)
		time.Sleep(time.Minute)
		if got := m.did(); !strings.Contains(got, "8.2s   hook of app is over: context canceled") {
			t.Error(got)
		}
	})
}

// A container is not ready before its postStart hook is over; one whose hook fails is ended, and started again ever later.
// A pod that is told to stop meanwhile is stopped at once.
func TestPostStart(t *testing.T) {
	for _, c := range []struct{ name, hook, want string }{
		{"sleeps", "{postStart: {sleep: {seconds: 3}}}", "0s start web:v1 #0\n0s hook of app\n3s hook of app is over: <nil>\n3s 1 endpoints\n20.1s 0 endpoints\n20.3s stop web:v1, 9 s\n20.3s gone"},
		{"fails", "{postStart: {exec: {command: ['false']}}}", "0s start web:v1 #0\n0s hook of app\n0s stop web:v1, 9 s\n250ms start web:v1 #1\n250ms hook of app\n250ms stop web:v1, 9 s\n10.25s start web:v1 #2\n10.25s hook of app\n10.25s stop web:v1, 9 s\n20.1s gone"},
		{"for ever", "{postStart: {sleep: {seconds: 1000}}}", "0s start web:v1 #0\n0s hook of app\n20.25s hook of app is over: context canceled\n20.45s stop web:v1, 1000 s\n20.45s gone"},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t)
			m.images["web:v1"] = true
			m.run()
			grace := "9"
			if c.name == "for ever" {
				grace = "1000" // a hook that sleeps for longer is refused
			}
			m.commit(hookedApp(c.hook, grace) + "---\n" + other)
			time.Sleep(20100 * time.Millisecond) // not as the agent looks after a hook
			m.commit(other)
			time.Sleep(10 * time.Second)
			expect(t, c.name, m.did(), c.want)
		})
	}
}
