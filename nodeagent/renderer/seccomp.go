package renderer

import (
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, whose words are in the machine's order; both machines are little-endian.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16
	dataArg2   = 32
)

const (
	prSetVMA       = 0x53564d41 // prctl that names memory, which the Go runtime does
	seccompErrno   = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	seccompNoSys   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	x32            = 0x40000000 // bit of the numbers of amd64's second table
	filterTSYNC    = unix.SECCOMP_FILTER_FLAG_TSYNC
	modeSetFilter  = unix.SECCOMP_SET_MODE_FILTER
	maxInstruction = 4096
)

// allowed are the system calls that a Go program makes to compute, to use open pipes and to end. All others fail
// with EPERM: there is no way to a file, a socket, a process or a program.
var allowed = append([]uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV, unix.SYS_CLOSE, unix.SYS_FCNTL,
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MREMAP, unix.SYS_BRK, unix.SYS_MINCORE,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_NANOSLEEP,
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETRANDOM, unix.SYS_MEMBARRIER,
	unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_PPOLL,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_SET_TID_ADDRESS, unix.SYS_RESTART_SYSCALL,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
}, allowedHere...)

// filter is the program that judges each system call of a process with this id.
func filter(pid int) []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: dataArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
		bpf.LoadAbsolute{Off: dataNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_KILL_PROCESS},
	}
	// unless adds: if the call is nr, it is judged by one word of its arguments.
	judge := func(nr uint32, arg uint32, test bpf.JumpIf, otherwise uint32) {
		test.SkipTrue, test.SkipFalse = 0, 1
		p = append(p,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: 4},
			bpf.LoadAbsolute{Off: arg, Size: 4},
			test,
			bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
			bpf.RetConstant{Val: otherwise},
		)
	}
	judge(unix.SYS_CLONE, dataArg0, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.CLONE_THREAD}, seccompErrno)
	judge(unix.SYS_TGKILL, dataArg0, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(pid)}, seccompErrno)
	judge(unix.SYS_PRCTL, dataArg0, bpf.JumpIf{Cond: bpf.JumpEqual, Val: prSetVMA}, seccompErrno)
	judge(unix.SYS_MMAP, dataArg2, bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: unix.PROT_EXEC}, seccompErrno)
	judge(unix.SYS_MPROTECT, dataArg2, bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: unix.PROT_EXEC}, seccompErrno)
	// clone3 hides its flags behind a pointer; C libraries fall back to clone when it does not exist.
	p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_CLONE3, SkipTrue: 1}, bpf.RetConstant{Val: seccompNoSys})
	for _, nr := range allowed {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nr, SkipTrue: 1}, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
	}
	return append(p, bpf.RetConstant{Val: seccompErrno})
}

// filterSyscalls applies the filter to all threads of this process. The calling thread must be locked and have
// given up new privileges; the kernel passes that on to the others.
func filterSyscalls() error {
	raw, err := bpf.Assemble(filter(unix.Getpid()))
	if err != nil {
		return fmt.Errorf("assemble: %w", err)
	}
	if len(raw) > maxInstruction {
		return fmt.Errorf("%d instructions; the kernel takes %d", len(raw), maxInstruction)
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, modeSetFilter, filterTSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return errno
	}
	if r != 0 {
		return fmt.Errorf("thread %d has a filter of its own", r)
	}
	return nil
}
