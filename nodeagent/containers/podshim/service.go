package podshim

import (
	"context"
	"log/slog"
	"sync"
	"time"

	eventstypes "github.com/containerd/containerd/api/events"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/ttrpc"
)

// service is containerd's task service with the records and the logs around it. It is also the publisher that
// containerd's service reports to.
type service struct {
	taskapi.TTRPCTaskService
	log  *slog.Logger
	wake string

	mu        sync.Mutex // guards instances
	instances map[string]*instance
}

func newService(log *slog.Logger, wake string) *service {
	return &service{log: log, wake: wake, instances: map[string]*instance{}}
}

func (s *service) register(server *ttrpc.Server) { taskapi.RegisterTTRPCTaskService(server, s) }

func (s *service) instance(id string) *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instances[id]
}

// Create makes the container in runc. Its bundle must hold instance.json; where its output goes is said there,
// not in the request.
func (s *service) Create(ctx context.Context, r *taskapi.CreateTaskRequest) (*taskapi.CreateTaskResponse, error) {
	in, err := openInstance(r.Bundle)
	if err != nil {
		return nil, err
	}
	if err := in.lapsed(); err != nil { // Start would say so too, after all the work
		in.handedOver()
		in.close()
		return nil, err
	}
	r.Terminal = in.meta.TTY
	r.Stdin, r.Stdout, r.Stderr = in.stdin, in.stdout, in.stderr
	s.mu.Lock()
	old := s.instances[r.ID]
	s.instances[r.ID] = in
	s.mu.Unlock()
	resp, err := s.TTRPCTaskService.Create(ctx, r)
	in.handedOver() // containerd's service holds the writing ends now, or nobody does
	if err != nil {
		s.mu.Lock()
		s.instances[r.ID] = old
		if old == nil {
			delete(s.instances, r.ID)
		}
		s.mu.Unlock()
		in.close()
	}
	return resp, err
}

// Start lets the container's first process, or an exec, run; past its deadline it does not. Asked here and not before,
// no deadline comes in between unnoticed: runc's process that waits to become the container's is in its cgroup, where the
// guard kills it. An agent that was halted between its decision and this call may go on with it when the lease is
// long over.
func (s *service) Start(ctx context.Context, r *taskapi.StartRequest) (*taskapi.StartResponse, error) {
	at := time.Now()
	if in := s.instance(r.ID); in != nil {
		if err := in.lapsed(); err != nil {
			return nil, err
		}
	}
	resp, err := s.TTRPCTaskService.Start(ctx, r)
	if err != nil || r.ExecID != "" {
		return resp, err
	}
	if in := s.instance(r.ID); in != nil {
		if err := in.started(int(resp.Pid), at); err != nil {
			s.log.Error("record start", "container", r.ID, "err", err)
		}
	}
	return resp, nil
}

// Delete takes the container out of runc; the log is closed once it is drained.
func (s *service) Delete(ctx context.Context, r *taskapi.DeleteRequest) (*taskapi.DeleteResponse, error) {
	resp, err := s.TTRPCTaskService.Delete(ctx, r)
	if err != nil || r.ExecID != "" {
		return resp, err
	}
	s.mu.Lock()
	in := s.instances[r.ID]
	delete(s.instances, r.ID)
	s.mu.Unlock()
	if in != nil {
		in.close()
	}
	return resp, nil
}

// Publish takes what containerd's service reports: of the events only the end of a container's first process, and
// memory that ran out, matter here.
func (s *service) Publish(_ context.Context, _ string, event events.Event) error {
	switch e := event.(type) {
	case *eventstypes.TaskExit:
		if e.ID != e.ContainerID {
			return nil // an exec
		}
		if in := s.instance(e.ContainerID); in != nil {
			go s.exited(in, e) // apart: it waits for the log
		}
	case *eventstypes.TaskOOM:
		if in := s.instance(e.ContainerID); in != nil {
			in.outOfMemory(s.TTRPCTaskService)
		}
	}
	return nil
}

func (s *service) exited(in *instance, e *eventstypes.TaskExit) {
	if err := in.exited(int32(e.ExitStatus), e.ExitedAt.AsTime()); err != nil {
		s.log.Error("record exit", "container", e.ContainerID, "err", err)
	}
	knock(s.wake)
}

// Close is what containerd's service calls when it has reported everything.
func (s *service) Close() error { return nil }
