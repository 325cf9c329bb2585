package volumes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/plan"
)

func TestMounts(t *testing.T) {
	v := open(t)
	pod := makePod(t, `
volumes:
- {name: scratch, emptyDir: {}}
- {name: all, configMap: {name: settings}}
- {name: host, hostPath: {path: /usr}}
containers:
- name: web
  securityContext: {readOnlyRootFilesystem: true}
  volumeMounts:
  - {name: scratch, mountPath: /var/cache/deep}
  - {name: scratch, mountPath: /logs, subPathExpr: "logs/$(POD)"}
  - {name: all, mountPath: /etc/resolv.conf, subPath: color}
  - {name: all, mountPath: /etc/app}
  - {name: host, mountPath: /host, readOnly: true}
`)
	if _, err := v.Prepare(t.Context(), pod, files); err != nil {
		t.Fatal(err)
	}
	mounts, err := v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], []string{"POD=web-1"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `/logs <- subpaths/web/1
/host <- /usr ro
/etc/resolv.conf <- subpaths/web/2 ro
/etc/app <- volumes/all ro
/etc/hosts <- etc/hosts
/etc/hostname <- etc/hostname ro
/var/cache/deep <- volumes/scratch
`
	if got := text(v, pod, mounts); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, err := os.ReadFile(v.run(string(pod.ID), "subpaths/web/2")); string(got) != "blue" {
		t.Errorf("the subPath of a file shows %q, %v", got, err)
	}
	info, err := os.Stat(v.path("pods", string(pod.ID), "volumes/scratch/logs/web-1"))
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the subPath that was made: %v, %v", info, err)
	}
	before := countMounts(t, v)
	if _, err := v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], []string{"POD=web-1"}); err != nil {
		t.Fatal(err)
	}
	if n := countMounts(t, v); n != before {
		t.Errorf("asked again, %d mounts became %d", before, n)
	}
}

// TestSubPathFollowsUpdate: a container that starts after an update gets the new file.
func TestSubPathFollowsUpdate(t *testing.T) {
	v := open(t)
	pod := makePod(t, `
volumes: [{name: all, configMap: {name: settings}}]
containers: [{name: web, volumeMounts: [{name: all, mountPath: /color, subPath: color}]}]
`)
	for _, color := range []string{"blue", "red"} {
		pod.ConfigMaps["settings"].Data["color"] = color
		if _, err := v.Prepare(t.Context(), pod, files); err != nil {
			t.Fatal(err)
		}
		mounts, err := v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(mounts[0].Source); string(got) != color {
			t.Errorf("got %q, %v, want %s", got, err, color)
		}
	}
}

func text(v *Volumes, pod *plan.Pod, mounts []plan.Mount) string {
	var b strings.Builder
	for _, m := range mounts {
		fmt.Fprintf(&b, "%s <- %s", m.Target, strings.TrimPrefix(strings.TrimPrefix(m.Source, v.run(string(pod.ID))+"/"), v.path("pods", string(pod.ID))+"/"))
		if m.ReadOnly {
			b.WriteString(" ro")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestMountsSayWhatIsWrong(t *testing.T) {
	v := open(t)
	for _, c := range []struct{ mount, want string }{
		{"{name: nope, mountPath: /a}", "container web: mount of volume nope at /a: the pod has no volume of this name"},
		{"{name: s, mountPath: /a, subPathExpr: $(NO)}", "container web: mount of volume s at /a: subPathExpr: the container has no variable NO, or its value is a Secret's"},
		{"{name: s, mountPath: /a, subPath: ../x}", `container web: mount of volume s at /a: subPath "../x": it must be relative and without ".."`},
		{"{name: s, mountPath: /a, mountPropagation: Bidirectional}", "container web: mount of volume s at /a: mountPropagation Bidirectional is not supported; expected None"},
		{"{name: c, mountPath: /a, subPath: nokey}", `container web: mount of volume c at /a: subPath "nokey": no such file or directory`},
	} {
		pod := makePod(t, "volumes: [{name: s, emptyDir: {}}, {name: c, configMap: {name: settings}}]\ncontainers: [{name: web, volumeMounts: ["+strings.ReplaceAll(c.mount, "$(NO)", `"$(NO)"`)+"]}]")
		if _, err := v.Prepare(t.Context(), pod, files); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil); err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.mount, err, c.want)
		}
	}
}

// TestFault_V5 plants links in a volume, standing and swapped while they are resolved, and asks for paths of
// the host that are not for pods. Nothing outside is ever bound.
func TestFault_V5(t *testing.T) {
	v := open(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "loot"), []byte("loot"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := `
volumes: [{name: s, emptyDir: {}}]
containers: [{name: web, volumeMounts: [{name: s, mountPath: /a, subPath: %s}]}]
`
	for _, link := range []string{outside, "../../../../../../../../../.." + outside, "/proc/self/root", "/"} {
		pod := makePod(t, fmt.Sprintf(spec, "link"))
		paths, err := v.Prepare(t.Context(), pod, files)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(paths["s"], "link")
		os.Remove(at)
		if err := os.Symlink(link, at); err != nil {
			t.Fatal(err)
		}
		_, err = v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil)
		if err == nil || !strings.Contains(err.Error(), "it leads out of the volume") {
			t.Errorf("link to %s: %v", link, err)
		}
		pod = makePod(t, fmt.Sprintf(spec, "link/made"))
		if _, err := v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil); err == nil {
			t.Errorf("made a directory through a link to %s", link)
		}
		if _, err := os.Lstat(filepath.Join(outside, "made")); err == nil {
			t.Error("a directory was made outside")
		}
		os.Remove(at)
	}

	// The race: a directory and a link out take turns under one name while the container is started again and
	// again. Every bind must show the directory or fail.
	pod := makePod(t, fmt.Sprintf(spec, "turn/in"))
	paths, err := v.Prepare(t.Context(), pod, files)
	if err != nil {
		t.Fatal(err)
	}
	dir, link := filepath.Join(paths["s"], "real"), filepath.Join(paths["s"], "trap")
	turn := filepath.Join(paths["s"], "turn")
	must(t, os.MkdirAll(filepath.Join(dir, "in"), 0o755), os.MkdirAll(filepath.Join(outside, "in"), 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "in/loot"), nil, 0o644), os.Symlink(outside, link), os.Rename(dir, turn))
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, turn, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	})
	bound, refused := 0, 0
	for range 2000 {
		mounts, err := v.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil)
		if err != nil {
			refused++
			continue
		}
		bound++
		if _, err := os.Lstat(filepath.Join(mounts[0].Source, "loot")); err == nil {
			t.Error("a bind shows the outside")
			break
		}
		must(t, unmountBelow(mounts[0].Source))
	}
	close(stop)
	swapper.Wait()
	if bound == 0 || refused == 0 {
		t.Errorf("no race: %d bound, %d refused", bound, refused)
	}

	hidden := filepath.Join(outside, "hidden")
	must(t, os.Symlink(v.opt.Dir, hidden))
	for _, path := range []string{v.opt.Dir, v.path("pods/x"), filepath.Dir(v.opt.RunDir), "/", hidden, hidden + "/pods"} {
		pod := makePod(t, "volumes: [{name: h, hostPath: {path: "+path+"}}]\ncontainers: [{name: web}]")
		if _, err := v.Prepare(t.Context(), pod, files); err == nil || !strings.Contains(err.Error(), errDenied.Error()) {
			t.Errorf("hostPath %s: %v", path, err)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzPath: whatever an author writes, a file lies below its volume and never on the names that updates need.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a", "a/b", "../a", "a/../../b", "..data", "/a", ".", "a//b", "..2024/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, at string) {
		set := fileSet{}
		if set.add(at, nil, 0o644) != nil {
			return
		}
		for p := range set {
			if !filepath.IsLocal(p) || strings.HasPrefix(p, "..") || filepath.Clean(p) != p {
				t.Errorf("%q became %q", at, p)
			}
		}
	})
}
