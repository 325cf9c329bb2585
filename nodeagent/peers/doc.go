// Package peers is who the other nodes are to this one, and the wires to them: the ring's own certificate authority, the
// certificates of its nodes, the tokens by which machines join, the one port on which nodes talk, and the connections to
// others by NodeID. It knows no ledger: what needs one are funcs in Options.
//
// # Who is who
//
// A node is its ed25519 key; its NodeID is a hash of it. A certificate of a node says
//
//	URI  shoal://<ring>/<node id>
//	life 24 h, renewed at two thirds of it
//
// and is signed by an authority of the ring (ed25519 as well: one algorithm, no randomness to get wrong when signing;
// nobody but Shoal's own nodes has to understand it). To be let in, a connection shows such a certificate, its key fits
// the NodeID, the certificate is in date, AND the node is Known: in the ledger, and not left. A node that is removed is
// refused at once, whatever certificate it holds. Names and addresses prove nothing. An authority has no date of its end,
// it ends by being dropped, so no ring stops on an anniversary.
//
// # The port
//
// TLS 1.3 only; the protocol is chosen by ALPN, and what offers none of these is dropped:
//
//	shoal-join   the joiner has no certificate; the server proves to be of the token's ring
//	shoal-renew  mTLS where a certificate may be past its end, or signed by a dropped authority
//	shoal-raft   mTLS, a raw stream: RaftStream
//	shoal-commands  the same: Commands, DialCommands
//	h2           mTLS, HTTP/2: Handle on one side, Client and Call on the other
//
// At most 256 connections are in their handshake, 64 of them from one address, each for 5 s; a further one ends the oldest.
// Connections are held to those one talks to: HTTP/2 is closed after 15 idle seconds, and a node that vanished without a
// word is noticed by pings after 1.5 s. A ring of one runs no timer but that of its certificate.
//
// # Joining
//
// A token (token.go) holds the ring's identity, the pin of its authority, an id and a secret; the ledger keeps the id and
// the secret's hash. The joiner compares the pin with the authority that the server shows before it sends anything. Its
// request is signed by its key over a value of this TLS connection alone, so one that was recorded is worth nothing on
// another. The server has Admit use up the token; the certificate is signed by it or by a node that holds the key, which
// asks its own ledger whether the node was admitted. The answer: authorities, certificate, gossip keys, members. The same
// node may ask again with the same token, should the answer get lost.
//
// Until its ledger has caught up, a new node knows the members that were named in that answer (Seeds).
//
// # Time
//
// A certificate that begins in the future is accepted: the authority signed it, so the clock that finds it early is late.
// One that ended is refused, but for shoal-renew, where the key of a Known node is enough, up to Options.Grace (30 days)
// after the end. So a ring that was off for a week comes back: the first node that holds the authority's key renews its
// own certificate and then those of the others. A node that was off for longer joins again with a token, as the same node.
//
// A node whose clock is years wrong finds the others' dates wrong. It then asks them for their time, by the protocol that
// looks at keys alone, and if most of them agree on another time, certificates are judged by that, with an error in the
// log, until the clock is set (clock.go). Two nodes of which one is wrong cannot tell which: they stay apart, and say so, until one clock
// is set. Nothing is deleted, and nothing else is done, because of a date.
//
// # Exchanging the authority
//
// Old and new are trusted together for a time: NewAuthority on a node that holds the key, Trust(DER) on all, FetchKeys
// on the other holders, SignBy on all (each gets a new certificate within a second), and Drop of the old one once no
// node's SignedBy is it. A node that was off meanwhile is known by its key: it renews by an authority that was dropped,
// and learns the new ones from the answer, however many exchanges it missed (the last 8). What a dropped authority
// signs is good for that and nothing else.
//
// # Files
//
//	ca.pem        trusted authorities, the one that signs first
//	ca-<pin>.key  the key of one, on nodes that hold it
//	retired.pem   authorities that were dropped
//	node.pem      this node's certificate; without it the node belongs to no ring
//	members       the members named in the answer to the join
//	joined        the id of the token by which this node joined
//
// in a directory of mode 0700, each 0600 and replaced whole. What is damaged is an error that names the file.
package peers
