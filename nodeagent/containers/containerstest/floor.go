package containerstest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
)

// Floor is a containerd with its own shim and task service, driven by its client and nothing else. It has the
// same runc, and the image of PushProgram.
type Floor struct {
	client *containerd.Client
	image  containerd.Image
	shim   string
	runc   string
	state  string
	n      atomic.Int64
}

// OpenFloor starts it, until the test ends.
func OpenFloor(t testing.TB) *Floor {
	t.Helper()
	state, err := os.MkdirTemp("/run", "shoal-floor-")
	must(t, err)
	data, err := os.MkdirTemp("/var/tmp", "shoal-floor-")
	must(t, err)
	socket := filepath.Join(state, "sock")
	daemon := exec.Command(buildIn(t, filepath.Join(root(t), "tools", "floor"), "github.com/shoal-dev/shoal/tools/floor"), data, filepath.Join(state, "d"), socket)
	daemon.Stderr = os.Stderr
	daemon.Env = append(os.Environ(), "PATH="+filepath.Dir(Runc(t))+":"+os.Getenv("PATH")) // its shim asks runc for its features
	must(t, daemon.Start())
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		os.RemoveAll(data)
		os.RemoveAll(state)
	})
	f := &Floor{shim: buildIn(t, filepath.Join(root(t), "tools", "floor"), "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"), runc: Runc(t), state: state}
	f.client, err = containerd.New(socket, containerd.WithDefaultNamespace("floor"))
	must(t, err)
	t.Cleanup(func() { f.client.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	host := Registry(t)
	PushProgram(t, host, "prog:1")
	for {
		f.image, err = f.client.Pull(ctx, host+"/prog:1", containerd.WithPullUnpack, containerd.WithResolver(docker.NewResolver(docker.ResolverOptions{
			Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchLocalhost)),
		})))
		if err == nil {
			return f
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Start makes and starts one container that sleeps, and tells how long that took; remove takes it away again.
func (f *Floor) Start(ctx context.Context) (took time.Duration, remove func() error, err error) {
	id := fmt.Sprint("floor-", f.n.Add(1))
	began := time.Now()
	c, err := f.client.NewContainer(ctx, id,
		containerd.WithNewSnapshot(id, f.image),
		containerd.WithNewSpec(oci.WithImageConfig(f.image), oci.WithProcessArgs("/bin/prog", "sleep", "1000"), oci.WithCgroup("/shoal-floor/"+id)),
		containerd.WithRuntime(f.shim, &options.Options{BinaryName: f.runc, Root: filepath.Join(f.state, "runc")}))
	if err != nil {
		return 0, nil, err
	}
	task, err := c.NewTask(ctx, cio.NullIO)
	if err != nil {
		return 0, nil, err
	}
	if err := task.Start(ctx); err != nil {
		return 0, nil, err
	}
	took = time.Since(began)
	return took, func() error {
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
			return err
		}
		return c.Delete(ctx, containerd.WithSnapshotCleanup)
	}, nil
}
