// Package podshim is the process that keeps a pod's containers: containerd's task service for runc, served on a
// socket of the pod's directory, without containerd's shim manager around it.
//
// One shim serves one pod from the sandbox's making to its removal, so that a container that is restarted finds it
// running. The agent talks to it directly; neither the agent's death nor containerd's is noticed here. Besides
// what runc's shim does, it
//
//   - writes the containers' output as CRI logs, rotated (package crilog);
//   - replaces state.json of an instance when it started and when it ended (package record), so that no exit code
//     depends on somebody listening;
//   - then knocks at the agent's wake socket with an empty datagram, which may be lost.
//
// The shim says that it serves by a byte on file descriptor 3, and ends if nobody takes it. Descriptor 4, where given, is
// the lock of the pod's directory, which it holds for life. Signals that mean "end" are ignored: it ends when
// the agent asks for it over the socket and no container is left, or is killed.
package podshim
