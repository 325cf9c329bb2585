// Package sealed keeps secrets in Git, encrypted per value with age.
//
//	secrets/<environment>/recipient     whom values are sealed for: one age recipient, plain
//	secrets/<environment>/identity.age  the identity that opens them, sealed to the keys of nodes (may also be kept elsewhere)
//	secrets/<environment>/<name>.yaml   one Kubernetes Secret: keys, and for each a sealed value and its MAC
//
// A file is written by Encode and read strictly:
//
//	format: shoal.dev/secret/v1
//	recipient: age1...
//	type: Opaque
//	values:
//	  "password":
//	    mac: "0f1e..."
//	    age: YWdlLWVuY3J5cHRpb24...
//
// An environment has one identity, an age X25519 key. What is inside a ciphertext repeats the environment, the file and the key, and is
// padded to 64 bytes, so a value that was copied elsewhere does not open, and its length says little.
//
// The identity is sealed to the ed25519 keys that nodes are known by, as age does it to SSH keys (nodekey.go), and to whoever else is named.
//
// On its way from Git to the node that opens it a Secret is an Object: a Kubernetes Secret with ciphertexts in the place of values, and with
// identity.age beside them.
//
// The MAC is HMAC-SHA-256, cut to 16 bytes, of place and value under a key derived from the identity: the same value at the same place gives
// the same MAC however often it is sealed, which tells whether it has changed, and nobody without the identity can try guesses. Who
// seals without the identity leaves the MAC out; then a new ciphertext is a new value. A new identity changes every MAC.
//
// age does not say in a ciphertext for whom it is. So Check, which has no identity, can compare only what the file says of its
// recipient with the environment's; that a value opens is seen where it is opened.
//
// Files encrypted by SOPS with age are read too, as YAML or JSON: Secret manifests, and flat maps of keys to values. The environment's
// recipient must be among theirs. They do not repeat their place: such a file can be copied to another environment of the same recipient only.
//
// No error of this package holds plaintext, nor what stands in a file in the place of a value.
package sealed
