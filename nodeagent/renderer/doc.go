// Package renderer evaluates a commit in a process of its own. Manifests come from strangers, and CUE has no cost
// limit: some hundred bytes can take minutes or gigabytes. So the agent never evaluates, nor parses, what is in a
// repository; it starts this binary again in another role, locks that process up, and talks to it over its
// standard input and output.
//
// # The process
//
// The child's environment is empty. Before it is sent anything of a repository it gives up, for good:
//
//   - where the parent is root: the network, process, mount and IPC namespaces of the host, every file (its root is
//     an empty read-only file system), and root itself (it becomes the user sandboxUID);
//   - always: new privileges, core files, and every system call but those that the Go runtime makes on its own
//     behalf (seccomp, for all threads). It cannot open a file or socket, fork, exec, trace or signal another process;
//   - Landlock's rights, where the kernel has it.
//
// The parent watches the child's CPU time, memory and the wall clock for each app, bounds what it reads from it,
// and kills its process group. The child ends when its standard input does, so it does not outlive the agent.
//
// # The protocol
//
// A frame is a type byte, a 4-byte length and the payload. The child answers one request at a time:
//
//	parent -> child   hello     limits; the child locks itself up
//	child  -> parent  ready     what it locked itself up with
//	parent -> child   render    environment and apps, or the question which environments there are
//	child  -> parent  lookup, list, read        of the tree, each answered by a reply
//	child  -> parent  begin     an app's turn has come: its clocks start
//	child  -> parent  loaded    what the app depends on, known before it is evaluated
//	child  -> parent  app       its objects or problems, or what Compile made of them
//	child  -> parent  done
//
// Many apps are split between as many children as the machine has processors (lane.go), each with this protocol; one of
// them stays for the next render.
//
// As apps are evaluated in order, the app whose turn it was is to blame for a dead child. If it was not alone in
// that process it is tried again in a fresh one, so that it does not pay for what came before it. Then it has a
// problem, which names it and the limit, and the others go on.
//
// # The cache
//
// A result is kept by what its evaluation read (render.Deps): the app's directory, the packages it imports, the
// files it embeds, the tags it uses, by Git's ids. A later commit that agrees in those needs no evaluation, and no
// reading. Failures are kept too, so that a bomb costs its limit once and not once a commit.
package renderer
