// Package volumes makes the files that pods are given: emptyDir, ConfigMap, Secret, downwardAPI, projected and
// hostPath volumes, subPath mounts, and /etc/hosts, /etc/hostname and /etc/resolv.conf.
//
// # Places
//
//	Dir/pods/<pod>/volumes/<volume>/    emptyDir on disk
//	Dir/trash/<pod>/                    what is being deleted
//	RunDir/pods/                        one tmpfs for all pods, never swapped where the kernel can promise it
//	RunDir/pods/<pod>/volumes/<volume>/ ConfigMap, Secret, downwardAPI and projected; emptyDir with medium Memory, a tmpfs of its own
//	RunDir/pods/.x/                     secrets of others than volumes: containers' environments
//	RunDir/pods/<pod>/etc/              hosts, hostname, resolv.conf: one set a pod
//	RunDir/pods/<pod>/subpaths/<container>/<n>   where subPath number n of a container is bound
//
// What Shoal writes lies in memory: Secrets must, and for the rest it is five times as fast as a disk. A reboot
// takes it away and the next Prepare writes it again.
//
// # Promises
//
// Every method may be repeated, and a crash at any point leaves what the next Prepare completes or the next
// Remove takes away: nothing is remembered, all is asked of the directories and of the kernel's mount table.
//
// Files of ConfigMaps and their kin change as in Kubernetes: a reader sees the old set of files or the new one.
// Each set lies in a directory named for its content, "..data" is a link to the present one that is replaced by
// rename, and each visible name is a link through "..data".
//
// A subPath is resolved by the kernel (openat2, RESOLVE_BENEATH) below its volume and what was found is bound by
// its file descriptor, so no link that a container plants or swaps leads outside.
//
// An emptyDir in memory has its sizeLimit from the kernel. One on disk is measured (Watch), as there is no quota on a
// directory that every file system has: between two looks it may outgrow its limit, and the pod is ended when that is
// seen. Files that are deleted but open, and what lies deeper than 256 directories, are not counted.
//
// Remove unmounts before it deletes, and deletes nothing while a mount is left below the pod's directories.
package volumes
