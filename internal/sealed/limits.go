package sealed

// Bounds of what is read and written.
const (
	MaxFile    = 2 << 20   // bytes of one file in secrets/<environment>/
	MaxFiles   = 1024      // files there
	MaxValues  = 256       // values of one file
	MaxValue   = 512 << 10 // bytes of one plaintext
	MaxTotal   = 1 << 20   // bytes of all plaintexts of one file, as Kubernetes has it
	MaxNodes   = 200       // recipients of an identity
	maxName    = 200       // bytes of a file's name without .yaml
	maxKey     = 253
	maxLeaves  = 4096 // of a SOPS file
	maxDepth   = 24
	maxPattern = 1 << 10 // bytes of a regular expression in a SOPS file
)
