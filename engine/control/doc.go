// Package control holds the rules of each kind, a file a kind: from what is desired, what there is and the time, to
// which pods there should be. Rules are pure: they take values and return a plan, with the time at which they want
// to be asked again. Package cluster carries plans out. Where Kubernetes has an answer, it is the answer here; what
// differs:
//
//   - Pods of a Job, and runs of a CronJob that forbids or replaces, keep their place until nothing is left of them:
//     two never overlap, not even while one stops.
//   - A Job whose pod template was changed in Git runs anew, where Kubernetes would refuse the change.
//   - A Job of Git whose ttlSecondsAfterFinished has passed loses its pods, but is not forgotten, or Git would have
//     it run again.
//   - A CronJob whose schedule was changed counts from the change; Kubernetes may make up for runs that the new
//     schedule would have had before.
//   - Where clocks are set forward or back, a schedule with named hours runs once for each local time (see Schedule).
//   - A ReplicaSet may adopt a Pod that Git names, but does not stop it to shrink.
package control
