package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/engine/control"
	"github.com/shoal-dev/shoal/engine/plan"
)

const (
	measureEvery = 10 * time.Second // as kubelet looks for pods to evict
	measureShare = 20               // a pass may take one part in that many of the time, 5 % of a processor
	measureDepth = 256              // directories below each other; what lies deeper is not counted
	measureBatch = 256              // names read at a time, so that a huge directory needs no huge memory
)

// limited is an emptyDir on disk that may not grow past a size.
type limited struct {
	name  string
	at    string
	bytes int64
	words string // the limit as its author wrote it
}

// limits are the volumes of a pod that must be measured. A tmpfs has its size from the kernel.
func (v *Volumes) limits(pod *plan.Pod) (all []limited) {
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		if vol.EmptyDir == nil || vol.EmptyDir.Medium != "" || vol.EmptyDir.SizeLimit == nil || vol.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		all = append(all, limited{vol.Name, v.path("pods", string(pod.ID), "volumes", vol.Name), vol.EmptyDir.SizeLimit.Value(), vol.EmptyDir.SizeLimit.String()})
	}
	return all
}

// Watch measures the volumes that have a limit until ctx ends. There is no quota on a directory that every file system
// and kernel has, so what they hold is counted, every 10 s and more seldom where that takes long.
func (v *Volumes) Watch(ctx context.Context) {
	timer := time.NewTimer(v.every())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		begun := time.Now()
		v.measure(ctx)
		timer.Reset(max(v.every(), measureShare*time.Since(begun)))
	}
}

func (v *Volumes) every() time.Duration {
	if v.opt.Measure > 0 {
		return v.opt.Measure
	}
	return measureEvery
}

// measure counts once.
func (v *Volumes) measure(ctx context.Context) {
	v.lock.Lock()
	watched := maps.Clone(v.watched)
	maps.DeleteFunc(watched, func(id control.PodID, _ []limited) bool { return v.excess[id] != "" }) // it is known
	v.lock.Unlock()
	news := false
	for id, volumes := range watched {
		for _, l := range volumes {
			used, err := usage(ctx, l.at, l.bytes)
			if err != nil || used <= l.bytes {
				continue // what cannot be measured is measured again
			}
			v.lock.Lock()
			if _, there := v.watched[id]; there {
				v.excess[id] = fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q.", l.name, l.words)
				news = true
			}
			v.lock.Unlock()
			break
		}
	}
	if news {
		select {
		case v.events <- struct{}{}:
		default:
		}
	}
}

// Excess are the pods with a volume that outgrew its limit, and which in words, until they are removed.
func (v *Volumes) Excess() map[control.PodID]string {
	v.lock.Lock()
	defer v.lock.Unlock()
	return maps.Clone(v.excess)
}

// Events tells that Excess has a further pod.
func (v *Volumes) Events() <-chan struct{} { return v.events }

// usage is what the files below dir take of the disk, in bytes; it stops counting above most. Nothing is followed
// out of dir, whatever a container changes there meanwhile.
func usage(ctx context.Context, dir string, most int64) (int64, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	u := counter{ctx: ctx, most: most}
	err = u.dir(fd, 0)
	return u.bytes, err
}

type counter struct {
	ctx   context.Context
	most  int64
	bytes int64
}

// dir counts one directory and closes it. What vanishes meanwhile is no error.
func (u *counter) dir(fd, depth int) error {
	d := os.NewFile(uintptr(fd), "volume")
	defer d.Close()
	for {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		names, err := d.Readdirnames(measureBatch)
		for _, name := range names {
			var st unix.Stat_t
			if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				// All links of a file lie in its volume: each counts for its part.
				u.bytes += st.Blocks * 512 / max(int64(st.Nlink), 1)
			} else if u.bytes += st.Blocks * 512; depth < measureDepth {
				below, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
				if err != nil {
					continue
				}
				if err := u.dir(below, depth+1); err != nil {
					return err
				}
			}
			if u.bytes > u.most {
				return nil
			}
		}
		if err != nil { // io.EOF, or the directory was removed
			if errors.Is(err, unix.EIO) {
				return err
			}
			return nil
		}
	}
}
