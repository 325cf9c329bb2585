package containers

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A seccomp filter for the machine's own ABI takes runc 5 ms to make, one that also allows the 32-bit ABIs 30 ms and
// as much CPU, for each container (runc 1.5.2, libseccomp 2.5.4). So the others are allowed only to images that can
// need them. Without, the kernel kills a 32-bit program with SIGSYS at its first system call.

// ownABI is the architecture of the machine in a seccomp profile.
var ownABI = map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[runtime.GOARCH]

// olderABI is what an image that can run 32-bit programs has: the architecture it says it is for, or one of the
// files that dynamically linked programs need.
var olderABI = map[string]struct {
	architecture string
	files        []string
}{
	"amd64": {"386", []string{
		"/lib/ld-linux.so.2", "/lib/ld-musl-i386.so.1", "/lib/i386-linux-gnu", "/usr/lib/i386-linux-gnu", "/lib32", "/usr/lib32", "/libx32",
	}},
	"arm64": {"arm", []string{
		"/lib/ld-linux.so.3", "/lib/ld-linux-armhf.so.3", "/lib/ld-musl-armhf.so.1", "/lib/arm-linux-gnueabihf", "/usr/lib/arm-linux-gnueabihf",
	}},
}[runtime.GOARCH]

// needsOlderABI looks into an image's files below root for 32-bit programs: what they are linked with, or one that is
// the image's own command. A static one that something else starts later is not found.
func needsOlderABI(root, architecture string, command []string) bool {
	if architecture == olderABI.architecture || slices.ContainsFunc(olderABI.files, func(f string) bool { return existsInside(root, f) }) {
		return true
	}
	if len(command) == 0 {
		return false
	}
	if strings.Contains(command[0], "/") {
		return is32Bit(root, command[0])
	}
	for dir := range strings.SplitSeq(defaultPath, ":") {
		if is32Bit(root, filepath.Join(dir, command[0])) {
			return true
		}
	}
	return false
}

func existsInside(root, name string) bool {
	path, err := securejoin.SecureJoin(root, name)
	if err != nil {
		return false
	}
	_, err = os.Lstat(path)
	return err == nil
}

// is32Bit tells whether a file is an ELF program of class 32.
func is32Bit(root, name string) bool {
	f := openInside(root, name)
	if f == nil {
		return false
	}
	defer f.Close()
	var head [5]byte
	n, _ := f.Read(head[:])
	return n == len(head) && string(head[:]) == "\x7fELF\x01"
}

// seccompProfile is containerd's default for a spec that is otherwise made, for the machine's own ABI alone unless the
// older ones are needed.
func seccompProfile(s *specs.Spec, older bool) *specs.LinuxSeccomp {
	profile := seccomp.DefaultProfile(s)
	if !older && ownABI != "" && slices.Contains(profile.Architectures, ownABI) {
		profile.Architectures = []specs.Arch{ownABI}
	}
	return profile
}
