package trust

// Bounds of what is read; all come from strangers.
const (
	MaxFile       = 256 << 10 // bytes of keys/signers, keys/trust.yaml and of one .asc
	MaxFiles      = 256       // files in keys/
	MaxKeys       = 1024      // keys that may sign, subkeys included
	MaxPrincipals = 1024      // entries of principals in trust.yaml, and of groups
	MaxPatterns   = 256       // in one list of trust.yaml
	MaxObject     = 1 << 20   // bytes of a commit or tag that is judged
	MaxSignature  = 32 << 10  // bytes of an armored signature
	MaxCommits    = 20_000    // in a range
	MaxChanges    = 512       // commits of a range that change keys/
	maxRSABits    = 8192      // bounds the time a verification takes
	minRSABits    = 2048
	maxLine       = 16 << 10 // of signers
	maxName       = 128      // bytes of a principal's name
	maxPattern    = 512
)
