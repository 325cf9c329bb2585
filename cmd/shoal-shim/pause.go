package main

import (
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// pause is the first process of a pod whose containers share a process namespace, and all it is for: the namespace lives
// as long as it does, and what loses its parent there becomes its child, to be reaped. It ends by SIGKILL alone, which
// no process in the namespace can send it.
func pause() {
	debug.SetGCPercent(-1)
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	for {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if pid <= 0 && err != unix.EINTR {
				break
			}
		}
		<-signals
	}
}
