// Package record is what the agent and a pod's shim tell each other through files of the run directory.
//
//	RUN/pods/<pod>/pod.json                  who the pod is; written by the agent, once
//	RUN/pods/<pod>/ns/{net,ipc,uts}          its pinned namespaces
//	RUN/pods/<pod>/shim.sock, shim.pid       where its shim listens, and its process id
//	RUN/pods/<pod>/c/<container>.<attempt>/  one instance of a container: an OCI bundle with, beside it,
//	    instance.json                        what it was made from; written by the agent, once
//	    state.json                           how far it came; written by the shim alone while it lives
//
// Every file is replaced as a whole, so a reader sees the old words or the new ones. The run directory is on a
// tmpfs: a reboot takes all of it away, and with it every claim that something runs.
package record

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Names of the files of a pod's directory and of an instance's.
const (
	PodFile      = "pod.json"
	SocketFile   = "shim.sock"
	PidFile      = "shim.pid"
	InstanceFile = "instance.json"
	StateFile    = "state.json"
	Instances    = "c"
)

// Pod is what the agent notes about a pod when it makes its sandbox.
type Pod struct {
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Epoch     uint64 `json:"epoch,omitempty"`
	HostNet   bool   `json:"hostNetwork,omitempty"`
	Cgroup    string `json:"cgroup,omitempty"`   // path of the pod's parent cgroup below each controller's root
	Released  bool   `json:"released,omitempty"` // it ended, and holds nothing any more but its records and logs
}

// Instance is what one instance of a container was made from.
type Instance struct {
	ID        string `json:"id"` // in runc; unique on the machine
	Container string `json:"container"`
	Attempt   int    `json:"attempt"`
	Image     string `json:"image"`            // "sha256:..." of the manifest
	Streak    int    `json:"streak,omitempty"` // failures in a row before this one; the agent's to say
	Created   int64  `json:"created"`

	Log      string `json:"log"`                // CRI log file; empty: output is discarded
	LogBytes int64  `json:"logBytes,omitempty"` // a log file is rotated past this size
	LogFiles int    `json:"logFiles,omitempty"` // how many are kept, the current one included
	Deadline string `json:"deadline,omitempty"` // file that says until when it may run (package deadline); "": it may
	Stdin    bool   `json:"stdin,omitempty"`
	TTY      bool   `json:"tty,omitempty"`
	Stop     string `json:"stop,omitempty"`    // the image's stop signal, "SIGTERM" if empty
	Scratch  string `json:"scratch,omitempty"` // directory of its writable layer
	Cgroup   string `json:"cgroup,omitempty"`
	// Message is the file on the host that the container may leave a last word in, "" if it has none; with
	// MessageLog the end of its log stands in for an empty one when it failed.
	Message    string `json:"message,omitempty"`
	MessageLog bool   `json:"messageLog,omitempty"`
	Runc       string `json:"runc"`
	RuncRoot   string `json:"runcRoot"`
}

// State is how far an instance has come. Times are ms since 1970.
type State struct {
	Pid      int   `json:"pid,omitempty"` // of the first process, while it runs
	Started  int64 `json:"started,omitempty"`
	Finished int64 `json:"finished,omitempty"` // 0 while it runs
	ExitCode int32 `json:"exitCode,omitempty"` // 128+signal when a signal ended it
	Signal   int32 `json:"signal,omitempty"`
	OOM      bool  `json:"oom,omitempty"`    // the kernel killed one of its processes for want of memory
	Lapsed   bool  `json:"lapsed,omitempty"` // it was killed, and past its deadline
}

// Read decodes the JSON file at path into v.
func Read(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Write replaces the file at path by v as JSON. It is not synced: the run directory does not outlive the
// kernel that would have to write it back.
func Write(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// InstanceDir is the name of an instance's directory below Instances.
func InstanceDir(container string, attempt int) string {
	return container + "." + strconv.Itoa(attempt)
}

// ParseInstanceDir reads what InstanceDir wrote; ok is false for any other name.
func ParseInstanceDir(name string) (container string, attempt int, ok bool) {
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(name[i+1:])
	if err != nil || n < 0 || strconv.Itoa(n) != name[i+1:] {
		return "", 0, false
	}
	return name[:i], n, true
}

// SignalOf gives the signal behind an exit code by the shell's convention (137 is 9), 0 if there is none.
func SignalOf(code int32) int32 {
	if code > 128 && code <= 128+64 {
		return code - 128
	}
	return 0
}
