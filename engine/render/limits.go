package render

// What one app may amount to. These are far above what people write and far below what hurts; the time and
// memory of an evaluation are limited by the process it runs in, since CUE has no cost limit of its own.
const (
	MaxFile        = 4 << 20  // bytes of one CUE or YAML file
	MaxFiles       = 1000     // CUE and YAML files of one directory
	MaxObjects     = 2000     // objects of one app
	MaxObjectBytes = 1 << 20  // bytes of one object's JSON; Kubernetes' own limit is 1.5 MiB
	MaxAppBytes    = 32 << 20 // bytes of all objects of one app
	MaxDepth       = 64       // nesting of structs and lists in one object
	MaxBrackets    = 500      // nesting of brackets in one CUE file
	MaxAliases     = 10000    // YAML nodes that stand there only by an alias, in one file
	MaxProblems    = 100      // problems of one app; a last one says how many more there were
	MaxApps        = 10000    // directories under apps/
)
