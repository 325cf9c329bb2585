// Package containers runs a node's pods: images with containerd, processes with runc, one small shim for each pod
// between them and everything else.
//
// # Who keeps what
//
//	containerd   images: content, layers, their unpacking, garbage collection. A child of the agent from the same
//	             binary, in a session of its own (package daemon); adopted when the agent comes back, started again
//	             when it ended. Nothing that runs, starts, restarts or ends needs it, unless an image is new.
//	shim         the containers of one pod (package podshim): runc, CRI logs, exits. Started with the sandbox, ends with
//	             it, so that a container that is restarted costs no more than runc does. Outlives agent and containerd.
//	guard        one process for the instance while the node has a ring (package guard): kills what may run once when the
//	             ring lease is over, whatever has become of the agent. Outlives the agent.
//	kernel       a pod's network, IPC and UTS namespaces, pinned by bind mounts: no pause process, unless its containers
//	             share their processes, whose namespace cannot be pinned (pause.go). Its cgroup, and its /dev/shm.
//	run dir      the records between shim and agent (package record), on a tmpfs; List reads these and nothing else.
//	private dir  OCI specs, with what is in containers' environments (private.go): in memory, never swapped.
//	data dir     containerd's root; scratch/<pod>/<container>.<attempt>, the writable layers.
//
// The agent speaks containerd's task protocol with the shims itself instead of through containerd's own task
// service. That takes two programs' starts, two database transactions and two hops away from the path of a start, and
// it takes containerd's death out of everything but pulls. Tools that list containerd's tasks see none; runc's own
// `runc --root RUN/runc/shoal-<instance> list` does.
//
// # A pod's life
//
// CreateSandbox makes the directory RUN/pods/<id>, with a shim that waited in a directory of its own (spares.go) or one
// that it begins to start, pins the namespaces meanwhile, mounts /dev/shm and makes the parent cgroup with the pod's limits. The caller then links the network namespace.
//
// Start makes an instance, named by pod, container and attempt: an OCI bundle whose root is an overlay of an empty
// directory over the image's layers. The layers' directories come from a read-only snapshot ("view") made
// when the image was pulled, which containerd's garbage collection regards as a root, and which is asked for once.
// instance.json is written last, then runc creates and starts through the shim. The shim writes state.json.
//
// A pod that may run only under the ring lease (plan.Pod.Leased) is in RUN/fenced from before its first container until
// after its last, for the guard, and its shim starts nothing past the deadline.
//
// When a container ends, the shim waits for the last of its output (100 ms at most), looks whether the kernel killed
// for memory, replaces state.json and knocks at RUN/agent.sock. Events passes that on. A lost knock costs a resync.
//
// Release gives back what a pod that has ended holds beside its records and its logs, which stay until RemoveSandbox:
// a Job's pods may be kept for long.
//
// # Crashes
//
// The agent may be killed anywhere. What has no state.json with a start is not running for List; Start of the same
// attempt goes on with what runc has already made, or removes the rest and begins anew. A shim that was about to
// start ends by itself if nobody hears that it is ready, and holds the pod directory's lock from its birth, so
// a pod never has two. RemoveSandbox removes the directory last: while List shows a pod, something of it may be left.
//
// A shim that dies takes its containers along: the agent sees its end by a pidfd, or at the next Open, ends them with
// runc and records exit code 137. The namespaces stay, so the pod keeps its address.
//
// After a reboot the run directory is empty and every pod gone; Open removes the writable layers without a pod.
// Layers are synced to the disk (syncfs) before they count, so a power loss leaves no half image.
//
// # What differs from Kubernetes
//
// The seccomp profile is RuntimeDefault unless the pod says Unconfined. A container of which one process was killed for
// want of memory ends as a whole, on cgroup v1 too. oom_score_adj below 0 is set only where the agent has the
// right to. Only overlayfs is supported below the data directory.
package containers
