package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

// TestMain gives the tests a mount namespace of their own: whatever they leave mounted ends with them.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	const inside = "SHOAL_TEST_MOUNTS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil {
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				os.Exit(exit.ExitCode())
			}
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func open(t *testing.T) *Volumes {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	resolv := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 192.0.2.1\nsearch corp.example .\noptions edns0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	v, err := Open(Options{Dir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), Resolv: resolv, Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Purge(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		if err := unmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	return v
}

var files = Files{
	DNS: []netip.Addr{netip.MustParseAddr("10.43.0.10")}, Domain: "cluster.local",
}

// makePod reads a pod's spec from YAML.
func makePod(t testing.TB, spec string) *plan.Pod {
	t.Helper()
	p := &plan.Pod{
		Pod: control.Pod{
			ID: "6e9a1c1e-0000-4000-8000-000000000001", Namespace: "shop", Name: "web-7d9f-x", IP: netip.MustParseAddr("10.42.0.5"),
			Labels: map[string]string{"app": "web", "tier": "front"},
		},
		Spec:        &corev1.PodSpec{},
		Annotations: map[string]string{"note": "two\nlines"},
		ConfigMaps: map[string]*corev1.ConfigMap{
			"settings": {Data: map[string]string{"color": "blue", "size": "10"}, BinaryData: map[string][]byte{"logo": {0, 1, 2}}},
		},
		Secrets: map[string]*corev1.Secret{
			"db": {Data: map[string][]byte{"user": []byte("app"), "password": []byte("s3cret")}},
		},
		NodeName:     "node1",
		NodeCapacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")},
	}
	if err := yaml.UnmarshalStrict([]byte(spec), p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// look prints what a directory shows: mode, group, name, and a link's target or a file's text.
func look(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, at)
		if strings.HasPrefix(rel, "..") && rel != "..data" {
			return nil // a set's own directory: seen through ..data
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case rel == "..data":
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(at)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s -> %s%s\n", rel, to, describe(at))
		default:
			fmt.Fprintf(&b, "%s%s\n", rel, describe(at))
		}
		_ = info
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func describe(at string) string {
	info, err := os.Stat(at)
	if err != nil {
		return " " + err.Error()
	}
	group := info.Sys().(*syscall.Stat_t).Gid
	text := fmt.Sprintf(" %s %d", info.Mode(), group)
	if info.Mode().IsRegular() {
		data, err := os.ReadFile(at)
		if err != nil {
			return text + " " + err.Error()
		}
		return text + fmt.Sprintf(" %q", data)
	}
	if info.IsDir() {
		entries, _ := os.ReadDir(at)
		if strings.Contains(at, "/nested") {
			for _, e := range entries {
				text += "\n  " + e.Name() + describe(filepath.Join(at, e.Name()))
			}
		}
	}
	return text
}

const everything = `
volumes:
- {name: scratch, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: all, configMap: {name: settings, defaultMode: 0o644}}
- name: some
  configMap:
    name: settings
    defaultMode: 0o440
    items: [{key: color, path: nested/deep/colour}, {key: size, path: size, mode: 0o600}]
- {name: secret, secret: {secretName: db, defaultMode: 0o400}}
- {name: absent, configMap: {name: nowhere, optional: true}}
- name: facts
  downwardAPI:
    items:
    - {path: name, fieldRef: {fieldPath: metadata.name}}
    - {path: labels, fieldRef: {fieldPath: metadata.labels}}
    - {path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}}
    - {path: cpu, resourceFieldRef: {containerName: web, resource: limits.cpu}}
    - {path: mem, resourceFieldRef: {containerName: web, resource: requests.memory, divisor: 1Mi}}
- name: mixed
  projected:
    defaultMode: 0o444
    sources:
    - configMap: {name: settings, items: [{key: color, path: nested/color}]}
    - secret: {name: db, items: [{key: password, path: nested/password, mode: 0o400}]}
    - downwardAPI: {items: [{path: ns, fieldRef: {fieldPath: metadata.namespace}}]}
containers:
- {name: web, resources: {requests: {memory: 100Mi}}}
`

func TestPrepareShowsFilesAsKubernetesDoes(t *testing.T) {
	v := open(t)
	pod := makePod(t, everything)
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, vol := range pod.Spec.Volumes {
		fmt.Fprintf(&got, "# %s\n%s", vol.Name, look(t, paths[vol.Name]))
	}
	const want = `# scratch
. drwxrwxrwx 0
# memory
. drwxrwxrwx 0
# all
. drwxr-xr-x 0
color -> ..data/color -rw-r--r-- 0 "blue"
logo -> ..data/logo -rw-r--r-- 0 "\x00\x01\x02"
size -> ..data/size -rw-r--r-- 0 "10"
# some
. drwxr-xr-x 0
nested -> ..data/nested drwxr-xr-x 0
  deep drwxr-xr-x 0
  colour -r--r----- 0 "blue"
size -> ..data/size -rw------- 0 "10"
# secret
. drwxr-xr-x 0
password -> ..data/password -r-------- 0 "s3cret"
user -> ..data/user -r-------- 0 "app"
# absent
. drwxr-xr-x 0
# facts
. drwxr-xr-x 0
cpu -> ..data/cpu -rw-r--r-- 0 "4"
labels -> ..data/labels -rw-r--r-- 0 "app=\"web\"\ntier=\"front\""
mem -> ..data/mem -rw-r--r-- 0 "100"
name -> ..data/name -rw-r--r-- 0 "web-7d9f-x"
note -> ..data/note -rw-r--r-- 0 "two\nlines"
# mixed
. drwxr-xr-x 0
nested -> ..data/nested drwxr-xr-x 0
  color -r--r--r-- 0 "blue"
  password -r-------- 0 "s3cret"
ns -> ..data/ns -r--r--r-- 0 "shop"
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	for _, name := range []string{"secret", "mixed", "memory"} {
		var st syscall.Statfs_t
		if err := syscall.Statfs(paths[name], &st); err != nil || st.Type != 0x01021994 {
			t.Errorf("%s is not in a tmpfs (%x, %v)", name, st.Type, err)
		}
	}
	err = os.WriteFile(filepath.Join(paths["memory"], "big"), make([]byte, 2<<20), 0o644)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("2 MiB into a volume of 1 MiB: %v", err)
	}
}

func TestPrepareAgainChangesNothing(t *testing.T) {
	v := open(t)
	pod := makePod(t, everything)
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"scratch", "memory"} {
		if err := os.WriteFile(filepath.Join(paths[name], "kept"), []byte("kept"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before, mounts := inodes(t, v), countMounts(t, v)
	again, err := Open(v.opt) // as after an agent's restart
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Prepare(t.Context(), pod, files); err != nil {
		t.Fatal(err)
	}
	if after := inodes(t, v); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if n := countMounts(t, v); n != mounts {
		t.Errorf("%d mounts became %d", mounts, n)
	}
}

func TestUpdateReachesReaders(t *testing.T) {
	v := open(t)
	pod := makePod(t, everything)
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	next := makePod(t, everything)
	next.ConfigMaps["settings"] = &corev1.ConfigMap{Data: map[string]string{"color": "red", "shape": "round", "size": "11"}}
	next.Secrets["db"] = &corev1.Secret{Data: map[string][]byte{"user": []byte("app"), "password": []byte("n3w")}}
	if err := v.Update(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	got := look(t, paths["all"]) + look(t, paths["secret"])
	const want = `. drwxr-xr-x 0
color -> ..data/color -rw-r--r-- 0 "red"
shape -> ..data/shape -rw-r--r-- 0 "round"
size -> ..data/size -rw-r--r-- 0 "11"
. drwxr-xr-x 0
password -> ..data/password -r-------- 0 "n3w"
user -> ..data/user -r-------- 0 "app"
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	entries, err := os.ReadDir(paths["all"])
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 5 { // the set, ..data, three names
		t.Errorf("the old set is still there: %v", entries)
	}
}

// TestUpdateIsAtomic reads a pair of files that always change together, through one resolution of ..data.
func TestUpdateIsAtomic(t *testing.T) {
	v := open(t)
	pod := makePod(t, "volumes: [{name: pair, configMap: {name: pair}}]\ncontainers: [{name: web}]")
	pair := func(n int) { // two files, one value
		text := fmt.Sprint(n)
		pod.ConfigMaps["pair"] = &corev1.ConfigMap{Data: map[string]string{"a": text, "b": text}}
	}
	pair(0)
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan string, 1)
	go func() {
		reads := 0
		for {
			select {
			case <-stop:
				if reads == 0 {
					done <- "nothing was read"
				}
				close(done)
				return
			default:
			}
			root, err := os.OpenRoot(filepath.Join(paths["pair"], "..data"))
			if errors.Is(err, fs.ErrNotExist) {
				continue // replaced between the link and what it names
			}
			if err != nil {
				done <- err.Error()
				return
			}
			a, errA := root.ReadFile("a")
			b, errB := root.ReadFile("b")
			root.Close()
			if errA == nil && errB == nil && !bytes.Equal(a, b) {
				done <- fmt.Sprintf("a is %s, b is %s", a, b)
				return
			}
			reads++
		}
	}()
	for n := range 300 {
		pair(n)
		if err := v.Update(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if text, bad := <-done; bad {
		t.Error(text)
	}
}

// TestDamagedSetIsRepaired empties a file, as a power cut may, and leaves a half-written update behind.
func TestDamagedSetIsRepaired(t *testing.T) {
	v := open(t)
	pod := makePod(t, everything)
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	before := look(t, paths["all"])
	if err := os.Truncate(filepath.Join(paths["all"], "color"), 0); err != nil {
		t.Fatal(err)
	}
	for _, junk := range []string{"..tmp", "..0123456789"} {
		if err := os.MkdirAll(filepath.Join(paths["all"], junk, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(paths["all"], "size")); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Prepare(t.Context(), pod, files); err != nil {
		t.Fatal(err)
	}
	if after := look(t, paths["all"]); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	if entries, _ := os.ReadDir(paths["all"]); len(entries) != 5 {
		t.Errorf("left over: %v", entries)
	}
}

func TestFSGroup(t *testing.T) {
	v := open(t)
	pod := makePod(t, everything)
	group := int64(2000)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	got := look(t, paths["scratch"]) + look(t, paths["memory"]) + look(t, paths["secret"])
	const want = `. dgrwxrwxrwx 2000
. dgrwxrwxrwx 2000
. dgrwxr-xr-x 2000
password -> ..data/password -r--r----- 2000 "s3cret"
user -> ..data/user -r--r----- 2000 "app"
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	v := open(t)
	pod := makePod(t, everything)
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "scratch", MountPath: "/s", SubPath: "a/b"}}
	if _, err := v.Prepare(t.Context(), pod, files); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil); err != nil {
		t.Fatal(err)
	}
	if ids, err := v.List(); err != nil || fmt.Sprint(ids) != "[6e9a1c1e-0000-4000-8000-000000000001]" {
		t.Fatalf("List: %v, %v", ids, err)
	}
	for range 2 {
		if err := v.Remove(t.Context(), pod.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := inodes(t, v); strings.Contains(got, string(pod.ID)) {
		t.Errorf("left over:\n%s", got)
	}
	if n := countMounts(t, v); n != 1 {
		t.Errorf("%d mounts are left, expected the one for files", n)
	}
	if ids, err := v.List(); err != nil || len(ids) != 0 {
		t.Errorf("List: %v, %v", ids, err)
	}
}

// TestRemoveFinishesAfterCrash finds a pod half moved into the trash, and one of which only files in memory are left.
func TestRemoveFinishesAfterCrash(t *testing.T) {
	v := open(t)
	for _, at := range []string{v.path("trash", "a", "0", "volumes"), v.path("pods/a/volumes"), v.run("b", "s")} {
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := v.List()
	if err != nil || fmt.Sprint(ids) != "[a b]" {
		t.Fatalf("List: %v, %v", ids, err)
	}
	for _, id := range ids {
		if err := v.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := v.List(); err != nil || len(ids) != 0 {
		t.Errorf("List: %v, %v", ids, err)
	}
}

func TestPrepareSaysWhatIsWrong(t *testing.T) {
	v := open(t)
	for _, c := range []struct{ volume, want string }{
		{"configMap: {name: nowhere}", "volume x: there is no ConfigMap shop/nowhere"},
		{"secret: {secretName: nowhere}", "volume x: there is no Secret shop/nowhere"},
		{"configMap: {name: settings, items: [{key: colour, path: c}]}", `volume x: ConfigMap shop/settings has no key "colour"`},
		{"configMap: {name: settings, items: [{key: color, path: ../c}]}", `volume x: ConfigMap shop/settings: path "../c" must not contain ".."`},
		{"configMap: {name: settings, items: [{key: color, path: a}, {key: size, path: a/b}]}", `volume x: ConfigMap shop/settings: path "a/b": "a" is a file`},
		{"persistentVolumeClaim: {claimName: c}", "volume x: this kind of volume is not supported; expected one of configMap, downwardAPI, emptyDir, hostPath, projected, secret"},
		{"projected: {sources: [{serviceAccountToken: {path: t}}]}", "volume x: source 0: this kind of source is not supported; expected one of configMap, downwardAPI, secret"},
		{"emptyDir: {medium: HugePages}", `volume x: medium "HugePages" is not supported; expected "" or Memory`},
		{"downwardAPI: {items: [{path: ip, fieldRef: {fieldPath: status.podIP}}]}", `volume x: downwardAPI item "ip": field "status.podIP" is not supported; expected metadata.name, namespace, uid, labels or annotations`},
		{"hostPath: {path: /etc/hostname, type: Directory}", "volume x: hostPath /etc/hostname is not a Directory"},
	} {
		pod := makePod(t, "volumes: [{name: x, "+c.volume+"}]\ncontainers: [{name: web}]")
		if _, err := v.Prepare(t.Context(), pod, files); err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.volume, err, c.want)
		}
	}
	for _, id := range []control.PodID{"", "..", "a/b"} {
		if err := v.Remove(t.Context(), id); err == nil {
			t.Errorf("Remove(%q) had no objection", id)
		}
	}
}

// inodes prints every file below the two directories with its inode and time of change.
func inodes(t *testing.T, v *Volumes) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range []string{v.opt.Dir, v.opt.RunDir} {
		err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %d %s\n", at, info.Sys().(*syscall.Stat_t).Ino, info.ModTime())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func countMounts(t *testing.T, v *Volumes) int {
	t.Helper()
	found, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Dir(v.opt.Dir)))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
