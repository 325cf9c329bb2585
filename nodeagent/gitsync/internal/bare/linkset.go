package bare

import "fmt"

// linkSet is what the trees, commits and tags of a pack name.
type linkSet struct {
	named   map[Hash]Hash // id -> one object that names it
	max     int
	shallow func(Hash) bool // commits whose parents need not be there
}

func (s *linkSet) add(id Hash, k Kind, raw []byte) error {
	cut := k == Commit && s.shallow(id)
	first := true
	err := links(k, raw, func(h Hash) {
		if first || !cut { // of a cut commit only its tree, which comes first
			if _, ok := s.named[h]; !ok {
				s.named[h] = id
			}
		}
		first = false
	})
	if err == nil && len(s.named) > s.max {
		err = &LimitError{"the pack", fmt.Sprintf("names more than %d objects", s.max)}
	}
	return err
}
