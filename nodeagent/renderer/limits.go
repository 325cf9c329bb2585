package renderer

import "time"

// Limits bound one child. Zero fields mean their defaults.
type Limits struct {
	Wall   time.Duration // from an app's turn to its result; default 30 s
	CPU    time.Duration // CPU time of the child in one app's turn; default 5 s (an ordinary app takes 5 ms)
	Total  time.Duration // of one call of Render; apps not reached by then have a problem; default 2 min
	Memory int64         // bytes of private memory of the child; default 512 MiB (an ordinary batch takes 60 MiB)
	Output int           // bytes of one frame from the child, that is of one app; default 48 MiB
	Stderr int           // bytes the child may write to standard error before it is killed; default 1 MiB
	File   int           // bytes of one file that is handed to the child; default 8 MiB
	Life   time.Duration // CPU time after which a child is replaced between two renders; default 5 min
}

// WithDefaults returns l with zero fields filled in.
func (l Limits) WithDefaults() Limits {
	set(&l.Wall, 30*time.Second)
	set(&l.CPU, 5*time.Second)
	set(&l.Total, 2*time.Minute)
	set(&l.Memory, 512<<20)
	set(&l.Output, 48<<20)
	set(&l.Stderr, 1<<20)
	set(&l.File, 8<<20)
	set(&l.Life, 5*time.Minute)
	return l
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
