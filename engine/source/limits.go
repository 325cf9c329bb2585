package source

// The bounds of a tree. A repository of manifests for thousands of apps stays far below them; what is beyond
// is taken for a mistake or an attack, and refused with the path where the bound was met.
const (
	MaxName  = 255       // bytes of one name, as Linux file systems have it
	MaxPath  = 1024      // bytes of a path from the root
	MaxDepth = 64        // directories above a file
	MaxFiles = 250_000   // files, links and directories in a tree
	MaxFile  = 32 << 20  // bytes of one file
	MaxBytes = 512 << 20 // bytes of all files that FromFS holds in memory
	MaxLink  = 4096      // bytes of a symbolic link's target
)

// Limits bounds a tree. A zero field means the constant of that name.
type Limits struct {
	Path, Depth, Files int
	File, Bytes        int64
}

// WithDefaults fills in what is zero.
func (l Limits) WithDefaults() Limits {
	if l.Path == 0 {
		l.Path = MaxPath
	}
	if l.Depth == 0 {
		l.Depth = MaxDepth
	}
	if l.Files == 0 {
		l.Files = MaxFiles
	}
	if l.File == 0 {
		l.File = MaxFile
	}
	if l.Bytes == 0 {
		l.Bytes = MaxBytes
	}
	return l
}
