// Package doors answers at the node ports of previews that sleep: who asks for one wakes it, and is let in once it is awake.
//
// The packet filter leads a node port to pods as long as there are any. Where there are none, what comes in reaches the node itself, and a Door
// listens there. So nothing has to be exchanged when the preview wakes: once the packet filter has its pods again, new connections pass the door
// by. Those that came before are held, and taken to the Service as soon as that has pods; what the client has sent meanwhile is in the kernel, so
// it notices nothing but the time.
//
//	asleep          the door listens; a connection is held, and one goroutine a preview has the ring wake it
//	awake, no pods  the door goes on listening, so that nobody is turned away while it starts
//	awake, served   the door is closed; connections that came through it go on
//	gone            the door is closed, and so are its connections
//
// How long a connection is held is bounded, and how many there are, held or passed through, of a preview and in all. One too many is reset, and
// so is one that was held for too long.
package doors
