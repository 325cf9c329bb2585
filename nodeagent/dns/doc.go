// Package dns answers the pods of one node: names of the ring from memory, all others through the machine's own
// resolvers, with a cache.
//
// It listens on the DNS address of the service CIDR, which lies on the node's own link, so a question never leaves
// the machine, is not translated and not tracked. The ring's names come as wire.Tables, which are swapped whole
// behind an atomic pointer: a question sees either all of the old ones or all of the new ones.
//
// A pod's resolver with ndots:5 asks for "example.com" first as "example.com.default.svc.cluster.local" and so on.
// All of those lie in our zone and are refused from memory, within microseconds, with a SOA that lets clients
// remember it. The last of its search domains may be the machine's own; that one goes upstream once and is cached.
//
// Questions upstream bear a random id and leave from a random port; an answer must repeat id and question. A
// resolver that does not answer within a second is passed over and asked last for a while; a truncated answer is
// asked for again over TCP. When none answers, an expired answer is served for up to an hour, else SERVFAIL.
// Questions in flight, connections, and the cache are all bounded.
//
// Pods that may not speak to everybody (wire.Isolation) are told the ring's names; others, it says, do not exist. It does not refuse them: a
// resolver would end its search there.
//
// A server that ends need not give its sockets up: another process of the node holds copies of them (Files), and the next
// server takes them from it (Options.Holder). What is asked between the two waits in the sockets. Were they closed, a
// question would be refused at once, which resolvers take for the end of the only server they know.
package dns
