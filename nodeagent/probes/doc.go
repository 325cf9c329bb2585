// Package probes asks containers whether they have started, are ready and are alive, as Kubernetes does.
//
// One goroutine owns all state and sleeps until the next probe is due (a heap by time); an attempt runs in a
// goroutine of its own, so many at a time and no more. A container without probes costs nothing, one with
// probes a timer's wake a period.
//
// # What is as in Kubernetes
//
// A startup probe holds the others back until it succeeded once. A result counts once it came as often in a
// row as its threshold says; an attempt that could not be made (not one that failed) counts as nothing. A failed
// liveness or startup probe is reported once, then waits for a new instance. Attempts begin initialDelaySeconds
// after the container's start, the first of them at once. An HTTP answer from 200 to 399 is success, redirects
// within the host are followed, ten at most, certificates are not checked, 10 KiB of the body are read.
//
// # What is quicker
//
// A period of ten seconds would leave a server that listens after 30 ms unused for ten seconds. So while a
// readiness or startup probe has not succeeded since the container started, it is tried again after 50 ms
// (exec: 250 ms), then twice that, and so on until the period is reached: 8 tries more for a period of 10 s.
// Only a success of such a try counts; its failures count towards no threshold, so no container is
// killed sooner and none is ready that would not have said so. initialDelaySeconds is kept, and once a probe succeeded or
// ceased to, only its period counts (successThreshold above 1 too).
//
// # What is stricter
//
// A redirect to another host is a failure; Kubernetes takes it as success with a warning.
package probes
