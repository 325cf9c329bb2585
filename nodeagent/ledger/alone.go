package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/shoal-dev/shoal/engine/place"
)

// Alone is what a ledger was before it went on alone.
type Alone struct {
	Last      uint64   // the last entry of raft's log here; what others acknowledged behind it is lost
	Committed uint64   // the last that this node knew to be committed; those up to Last may never have been acknowledged
	Members   []Member // who got the log; they must not go on with it
}

// GoAlone makes a node the only voter of its ledger, with all entries it has, when most of the voters are lost for good.
// No process may have the ledger open. The other members, should they come back, know nothing of it: if most of them are
// there still they go on without this node, and there are two rings. So whoever calls this asks them first, and has them
// begin anew. A ledger of which this node is the only voter, or that knows no members, is an error and stays as it is.
func GoAlone(dir string, node place.NodeID, log *slog.Logger) (Alone, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat(filepath.Join(dir, "log")); err != nil {
		return Alone{}, fmt.Errorf("go alone: %w", err)
	}
	d, err := openDisk(diskOptions{dir: dir, segment: segmentSize, log: log})
	if err != nil {
		return Alone{}, fmt.Errorf("go alone: %w", err)
	}
	was, err := d.goAlone(node)
	if err = errors.Join(err, d.Close()); err != nil {
		return Alone{}, fmt.Errorf("go alone: %w", err)
	}
	return was, nil
}

// goAlone appends a configuration to raft's log, which raft takes for its latest when it starts.
func (d *disk) goAlone(node place.NodeID) (was Alone, err error) {
	conf, at, err := d.configuration()
	if err != nil {
		return was, err
	}
	voters := 0
	for _, s := range conf.Servers {
		was.Members = append(was.Members, Member{ID: place.NodeID(s.ID), Voter: s.Suffrage == raft.Voter})
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	id := raft.ServerID(node)
	switch {
	case len(conf.Servers) == 0:
		return was, errors.New("this ledger knows no members")
	case voters == 1 && len(conf.Servers) == 1 && conf.Servers[0].ID == id:
		return was, errors.New("this node is the only member already")
	}
	if was.Committed, err = d.committed(); err != nil {
		return was, err
	}
	was.Last, was.Committed = at.index, max(was.Committed, d.snaps.newest())
	only := raft.Configuration{Servers: []raft.Server{{ID: id, Address: raft.ServerAddress(id)}}}
	return was, d.StoreLog(&raft.Log{
		Index: at.index + 1, Term: at.term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(only),
	})
}

// configuration is the latest one that the disk holds, and the place of the last entry.
func (d *disk) configuration() (conf raft.Configuration, at position, err error) {
	if s := d.snaps.first(); s != nil {
		conf, at = s.Configuration, position{s.Index, s.Term}
	}
	first, err := d.FirstIndex()
	if err != nil {
		return conf, at, err
	}
	last, err := d.LastIndex()
	if err != nil {
		return conf, at, err
	}
	for index := max(first, at.index+1); index <= last && last > 0; index++ {
		var l raft.Log
		if err := d.read(index, &l); err != nil {
			return conf, at, err
		}
		if l.Type == raft.LogConfiguration {
			conf = raft.DecodeConfiguration(l.Data)
		}
		at = position{index, l.Term}
	}
	return conf, at, nil
}
