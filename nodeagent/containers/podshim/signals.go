package podshim

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's, on amd64 and arm64 alike.
type sigaction struct {
	handler, flags, restorer, mask uint64
}

// hearSignals gives back their default to the real-time signals that came ignored. An ignored signal stays so over
// every exec, down into the containers; who starts the agent by posix_spawn (make does) may leave 32 and 33 so, and
// the Go runtime, which sees to the others, leaves those to libc.
func hearSignals() {
	const ignored, setSize = 1, 8
	for sig := uintptr(32); sig <= 64; sig++ {
		var now, standard sigaction
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&now)), setSize, 0, 0)
		if errno == 0 && now.handler == ignored {
			_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&standard)), 0, setSize, 0, 0)
		}
	}
}
