//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/desired"
)

// secretApp has a pod that gets a Secret's value as a variable and as a file, and is probed by a command that is run in it.
func secretApp(name string) string {
	return strings.ReplaceAll(`apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers:
      - name: main
        image: shoal.local/probe:v1
        args: [sleep, forever]
        env:
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
        envFrom: [{secretRef: {name: db}, prefix: DB_}]
        volumeMounts: [{name: s, mountPath: /s}]
        readinessProbe: {exec: {command: [/probe, ls, /s]}, periodSeconds: 1}
      volumes: [{name: s, secret: {secretName: db}}]
`, "NAME", name)
}

// canary is a value that is found wherever it has gone.
type canary struct {
	text    string
	needles [][]byte
}

func newCanary() canary {
	c := canary{text: "canary-" + rand.Text()}
	c.needles = [][]byte{[]byte(c.text), []byte(hex.EncodeToString([]byte(c.text))), []byte(strings.ToUpper(hex.EncodeToString([]byte(c.text))))}
	for shift := range 3 { // base64 of a text that has it somewhere
		b := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + c.text))
		c.needles = append(c.needles, []byte(b[4:len(b)-4]))
	}
	return c
}

func (c canary) in(b []byte) bool {
	for _, n := range c.needles {
		if bytes.Contains(b, n) {
			return true
		}
	}
	return false
}

// onDisk are the files below dirs that hold it. What a machine has mounted in its own namespace is not seen: what is seen is the disk.
func (c canary) onDisk(t *testing.T, dirs ...string) (found []string) {
	t.Helper()
	files := 0
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			files++
			if c.in(b) || c.in([]byte(path)) {
				found = append(found, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 20 {
		t.Fatalf("looked at %d files only", files)
	}
	return found
}

// inProcesses are the processes that have it on their command line, and those that have it in their environment without being a container's.
func (c canary) inProcesses(instances ...string) (found []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		environ, _ := os.ReadFile(dir + "/environ")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		inPod := slices.ContainsFunc(instances, func(i string) bool { return strings.Contains(string(cgroup), "shoal-"+i) })
		if c.in(cmdline) || c.in(environ) && !inPod {
			found = append(found, fmt.Sprintf("%s: %q", dir, cmdline))
		}
	}
	return found
}

// leaks looks for canaries in all that can be seen of a node without being root in its memory.
func (n *Node) leaks(repo *Repository, all ...canary) (found []string) {
	n.t.Helper()
	t := n.t.(*testing.T)
	outputs := map[string]string{"the agent's log": n.output.String()}
	for _, args := range [][]string{
		{"status"},
		{"status", "-o", "json"},
		{"why", "pod", "web"},
		{"why", "deployment/web"},
		{"why", "secret/db"},
		{"why", "secret/db", "-o", "json"},
		{"plan"},
		{"plan", "-o", "json"},
		{"render"},
		{"render", "-o", "json"},
		{"render", "--show-secrets"},
		{"render", "--raw"},
		{"check"},
		{"secret", "ls"},
		{"secret", "keys", "--data-dir", n.Data},
		{"nodes", "-o", "json"},
		{"ring", "status"},
	} {
		stdout, stderr, _ := n.ShoalIn(repo.Dir, "", args...)
		outputs["shoal "+strings.Join(args, " ")] = stdout + stderr
	}
	events, err := n.Client().Events(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	outputs["events"] = strings.Join(events, "\n")
	for _, environment := range n.Status().Environments {
		manifest, err := n.Client().Manifest(context.Background(), environment.Name)
		if err != nil {
			t.Fatal(err)
		}
		set, err := desired.DecodeSet(manifest)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range set.Entries {
			b, err := n.Client().Blob(context.Background(), string(e.Digest))
			if err != nil {
				t.Fatal(err)
			}
			outputs["blob of "+e.Key.String()] = string(b)
		}
	}
	for what, text := range outputs {
		if strings.TrimSpace(text) == "" && what != "events" {
			t.Errorf("%s: nothing was looked at", what)
		}
	}
	for _, c := range all {
		found = append(found, c.onDisk(t, n.Data, n.Run, n.Logs, repo.Dir)...)
		found = append(found, c.inProcesses(n.instance())...)
		for what, text := range outputs {
			if c.in([]byte(text)) {
				found = append(found, what)
			}
		}
	}
	return found
}

// sees tells whether the pod of an app has a value, as a file and as a variable; "": that is not asked.
func (n *Node) sees(app, file, variable string) error { return n.seesIn("dev", app, file, variable) }

// seesIn is sees in an environment.
func (n *Node) seesIn(environment, app, file, variable string) error {
	pod := ""
	for _, p := range n.Status().Pods {
		if p.Environment == environment && strings.HasPrefix(p.Name, app+"-") && p.Ready > 0 {
			pod = p.Name
		}
	}
	if pod == "" {
		return fmt.Errorf("no pod of %s is ready in %s", app, environment)
	}
	exec := func(args ...string) string {
		stdout, stderr, _ := n.Shoal(append([]string{"exec", "-n", environment, pod, "--", "/probe"}, args...)...)
		return stdout + stderr
	}
	if got := exec("cat", "/s/password"); got != file {
		return fmt.Errorf("the file has %q; want %q", got, file)
	}
	env := exec("env")
	if variable != "" && (!strings.Contains(env, "\nPASSWORD="+variable+"\n") || !strings.Contains(env, "DB_password="+variable+"\n")) {
		return fmt.Errorf("the environment lacks %q:\n%s", variable, env)
	}
	return nil
}

// secret runs shoal secret with the node's key.
func (r *Repository) secret(stdin string, args ...string) string {
	r.n.t.Helper()
	stdout, stderr, code := r.n.ShoalIn(r.Dir, stdin, append([]string{"secret", "--data-dir", r.n.Data}, args...)...)
	if code != 0 {
		r.n.t.Fatalf("shoal secret %s: %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout + stderr
}

// privateFiles are the files that pods' secrets are in, as the machine itself sees them.
func (n *Node) privateFiles() string {
	n.t.Helper()
	return n.must("sh", "-c", `find "$0"/v/pods ! -type d`, n.Run)
}

// watchCreated tells what is made in a directory from now on.
func watchCreated(t *testing.T, dir string) func() []string {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	return func() (names []string) {
		buf := make([]byte, 1<<20)
		for {
			k, err := unix.Read(fd, buf)
			if err != nil || k <= 0 {
				return names
			}
			for at := 0; at+unix.SizeofInotifyEvent <= k; {
				size := int(buf[at+12]) | int(buf[at+13])<<8
				names = append(names, strings.TrimRight(string(buf[at+unix.SizeofInotifyEvent:at+unix.SizeofInotifyEvent+size]), "\x00"))
				at += unix.SizeofInotifyEvent + size
			}
		}
	}
}

// A secret's value is in the pod that uses it, and in nothing that anybody else can read: not on a disk, in no log, answer or process list;
// over a change of the value, a restart of the agent, a reboot with the forge away, and the pod's end.
func TestFault_A9_Canary(t *testing.T) {
	n := NewNode(t, "--log-level", "debug")
	forge := filepath.Join(t.TempDir(), "forge.git")
	n.must("git", "init", "-q", "--bare", "-b", "main", forge)
	n.Args = append(n.Args, "--repository", "file://"+forge, "--poll", "300ms")
	n.Start()
	n.Image("probe:v1")
	repo := n.Repository(map[string]string{"apps/web/web.yaml": secretApp("web"), "apps/plain/plain.yaml": strings.ReplaceAll(configOnly, "NAME", "plain")})
	repo.git("remote", "set-url", "origin", forge)
	made := watchCreated(t, os.TempDir())

	first, second := newCanary(), newCanary()
	t.Log(repo.secret(first.text+"\n", "set", "db", "password"))
	repo.Push("one")
	n.Eventually(soon, func() error { return n.sees("web", first.text, first.text) })
	if found := n.leaks(repo, first); found != nil {
		t.Fatalf("the value is in %s", strings.Join(found, "\n"))
	}

	pod := n.Status().Pods[0].Name
	repo.secret(second.text, "set", "db", "password=-")
	repo.Push("two")
	n.Eventually(soon, func() error { return n.sees("web", second.text, first.text) })
	if now := n.Status().Pods[0].Name; now != pod {
		t.Errorf("another pod runs: %s, then %s", pod, now)
	}
	if found := n.leaks(repo, first, second); found != nil {
		t.Fatalf("after a change: the value is in %s", strings.Join(found, "\n"))
	}

	n.Kill()
	n.Start()
	n.Eventually(soon, func() error { return n.sees("web", second.text, first.text) })
	if found := n.leaks(repo, first, second); found != nil {
		t.Fatalf("after a restart of the agent: the value is in %s", strings.Join(found, "\n"))
	}

	if err := os.Rename(forge, forge+".away"); err != nil {
		t.Fatal(err)
	}
	n.Reboot()
	n.Start()
	n.Eventually(60*time.Second, func() error { return n.sees("web", second.text, second.text) })
	if found := n.leaks(repo, first, second); found != nil {
		t.Fatalf("after a reboot: the value is in %s", strings.Join(found, "\n"))
	}

	if err := os.Rename(forge+".away", forge); err != nil {
		t.Fatal(err)
	}
	if files := n.privateFiles(); !strings.Contains(files, "password") || !strings.Contains(files, ".x/") {
		t.Errorf("nothing is in memory while the pod runs:\n%s", files)
	}
	repo.git("rm", "-rq", "apps/web")
	repo.Push("web goes")
	n.Eventually(soon, func() error {
		if files := n.privateFiles(); files != "" {
			return fmt.Errorf("in memory are still:\n%s", files)
		}
		return nil
	})
	if found := first.onDisk(t, n.Data, n.Run, n.Logs); found != nil {
		t.Errorf("after the pod's end: the value is in %s", strings.Join(found, "\n"))
	}
	for _, name := range made() {
		if strings.HasPrefix(name, "runc-process") {
			t.Errorf("what a command in a container gets was written to %s", filepath.Join(os.TempDir(), name))
		}
	}
}

// configOnly is an app without pods.
const configOnly = `apiVersion: v1
kind: ConfigMap
metadata: {name: NAME}
data: {a: b}
`

// An environment whose key no node has: what needs it waits and says so, the rest runs; once it is sealed to the node, it runs. Then the
// environment gets another key, and no pod restarts.
func TestFeature_G11_Secrets(t *testing.T) {
	n := NewNode(t).Start()
	n.Image("probe:v1")
	person, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(t.TempDir(), "person.txt")
	if err := os.WriteFile(identity, []byte(person.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	repo := n.Repository(map[string]string{
		"apps/db/db.yaml": secretApp("db"), "apps/web/web.cue": webApp("probe:v1", "one"),
	})
	if out := repo.Push("without"); !strings.Contains(out, "Secret dev/db not found") {
		t.Errorf("push without the secret:\n%s", out)
	}
	elsewhere := func(stdin string, args ...string) string {
		t.Helper()
		stdout, stderr, code := n.ShoalIn(repo.Dir, stdin, append([]string{"--server", "/nonexistent", "secret", "--data-dir", "/nonexistent"}, args...)...)
		return fmt.Sprintf("%s%s%d", stdout, stderr, code)
	}
	t.Log(elsewhere("", "keys", "init", "--to", person.Recipient().String()))
	t.Log(elsewhere("one", "set", "db", "password"))
	if out := repo.Push("for nobody here"); !strings.Contains(out, "this node has no key of environment dev") {
		t.Logf("push:\n%s", out)
	}
	n.Eventually(soon, func() error { return n.answers(page+"/env", "GREETING=one") })
	n.Eventually(soon, func() error {
		stdout, _, _ := n.Shoal("status")
		if !strings.Contains(stdout, "secret dev/db: this node has no key of environment dev: identity.age: open identity of dev: is sealed for somebody else; there is no other node to ask") {
			return fmt.Errorf("status:\n%s", stdout)
		}
		return nil
	})
	stdout, _, _ := n.Shoal("status")
	t.Log(stdout)
	for _, p := range n.Status().Pods {
		if strings.HasPrefix(p.Name, "db-") {
			if stdout, _, _ := n.Shoal("why", "pod/"+p.Name); !strings.Contains(stdout, "this node has no key of environment dev") {
				t.Errorf("why:\n%s", stdout)
			} else {
				t.Log(stdout)
			}
		}
	}
	if files := n.privateFiles(); strings.Contains(files, "password") {
		t.Errorf("half-written:\n%s", files)
	}

	t.Log(repo.secret("", "keys", "seal", "--identity", identity, "--to", person.Recipient().String()))
	repo.Push("for the node")
	n.Eventually(soon, func() error { return n.sees("db", "one", "one") })
	pods := func() (names string) {
		for _, p := range n.Status().Pods {
			names += fmt.Sprint(p.Name, p.Restarts, " ")
		}
		return names
	}
	before := pods()

	t.Log(repo.secret("", "rotate", "--to", person.Recipient().String()))
	repo.Push("another key")
	time.Sleep(2 * time.Second)
	n.Eventually(soon, func() error { return n.sees("db", "one", "one") })
	if now := pods(); now != before {
		t.Errorf("pods after the rotation: %s; before: %s", now, before)
	}
	t.Log(repo.secret("", "keys"), repo.secret("", "ls"))

	// Back to a commit of before: the value of then, by the key of then.
	repo.secret("two", "set", "db", "password")
	repo.Push("another value")
	n.Eventually(soon, func() error { return n.sees("db", "two", "one") })
	repo.git("revert", "--no-edit", "HEAD", "HEAD~1")
	repo.git("push", "origin", "HEAD:main")
	n.Eventually(soon, func() error { return n.sees("db", "one", "one") })
	stdout, _, _ = n.Shoal("why", "secret/db")
	t.Log(stdout)
}

// A node that an environment's key is not sealed to gets it from one that has it, as a pod of the environment is placed on it, and keeps
// it: it starts the pod again after a reboot, with the other node away. When the pod moves, nothing stays behind.
func TestFeature_G11_SecretsOfARing(t *testing.T) {
	r := newRing(t, 2).start()
	first, second := r.nodes[0], r.nodes[1]
	first.Image("probe:v1")
	apart := strings.Replace(secretApp("web"), "  selector:", "  replicas: 2\n  selector:", 1)
	apart = strings.Replace(apart, "    spec:\n      containers:", `    spec:
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{labelSelector: {matchLabels: {app: web}}, topologyKey: kubernetes.io/hostname}]}}
      containers:`, 1)
	repo := first.Repository(map[string]string{"apps/web/web.yaml": apart})
	c := newCanary()
	stdout, stderr, code := first.ShoalIn(repo.Dir, "", "--server", "/nonexistent", "secret", "--data-dir", first.Data, "keys", "init")
	t.Log(stdout, stderr, code)
	repo.secret(c.text, "set", "db", "password")
	if out := repo.secret("", "keys"); !strings.Contains(out, "not to node n2, which asks others for the key") {
		t.Errorf("keys:\n%s", out)
	}
	repo.Push("one")
	first.Eventually(soon, func() error { return first.podsReady(2) })
	pods := func(on string) (names []string) {
		for _, p := range first.Status().Pods {
			if p.Node == on {
				names = append(names, p.Name)
			}
		}
		return names
	}
	there := pods("n2")
	if len(there) != 1 {
		t.Fatalf("pods on n2: %v", there)
	}
	has := func(n *Node) error {
		stdout, stderr, _ := n.Shoal("exec", "-n", "dev", there[0], "--", "/probe", "cat", "/s/password")
		if stdout != c.text {
			return fmt.Errorf("the file has %q %s", stdout, stderr)
		}
		return nil
	}
	if err := has(first); err != nil { // by way of n2
		t.Error(err)
	}
	if !strings.Contains(second.output.String(), "got the key of an environment from another node") {
		t.Error("n2 did not ask")
	}
	for _, n := range r.nodes {
		if found := append(c.onDisk(t, n.Data, n.Run, n.Logs), c.inProcesses(first.instance(), second.instance())...); found != nil {
			t.Errorf("on %s the value is in %s", n.name, strings.Join(found, "\n"))
		}
	}

	first.Kill()
	second.Reboot()
	second.Start()
	second.Eventually(60*time.Second, func() error { return has(second) })
	first.Start()
	first.Eventually(60*time.Second, func() error { return r.whole(2) })
	first.Eventually(soon, func() error { return first.podsReady(2) })

	repo.Write("apps/web/web.yaml", secretApp("web"))
	repo.Push("one pod, wherever")
	first.Eventually(soon, func() error {
		if a, b := pods("n1"), pods("n2"); len(a)+len(b) != 1 {
			return fmt.Errorf("pods: %v and %v", a, b)
		}
		return nil
	})
	from, to := first, second
	if len(pods("n2")) == 1 {
		from, to = second, first
	}
	first.Eventually(soon, func() error { return first.podsReady(1) })
	if _, stderr, code := first.Shoal("drain", from.name); code != 0 {
		t.Fatalf("drain: %s", stderr)
	}
	first.Eventually(60*time.Second, func() error {
		if files := from.privateFiles(); files != "" || len(pods(to.name)) != 1 {
			return fmt.Errorf("on %s, in memory are still:\n%s", from.name, files)
		}
		return nil
	})
	first.Eventually(soon, func() error { return first.podsReady(1) })
	if files := to.privateFiles(); !strings.Contains(files, "password") {
		t.Errorf("on %s, where the pod is now:\n%s", to.name, files)
	}
}
