package ring

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// lineLogger makes the libraries' lines, "[WARN] memberlist: text", records of ours. What they call an error is
// mostly a packet that could not be read or a member that did not answer: a warning to whoever runs the node.
//
// What was dropped because it is not of this ring is counted; it is logged once in ten seconds, for strangers send it.
type lineLogger struct {
	log     *slog.Logger
	refused atomic.Uint64
	said    atomic.Int64 // when such a line was logged last, ns
}

// notOurs are parts of the lines by which memberlist says that something was not of this ring.
var notOurs = [][]byte{
	[]byte("Decrypt packet failed"), []byte("unacceptable label"), []byte("No installed keys could decrypt"),
	[]byte("Remote state is not encrypted"), []byte("failed to receive"), []byte("unexpected double"), []byte("msg type"),
}

func (l *lineLogger) Write(line []byte) (int, error) {
	n := len(line)
	level, text := slog.LevelDebug, bytes.TrimSpace(line)
	if rest, ok := bytes.CutPrefix(text, []byte("[")); ok {
		if name, rest, ok := bytes.Cut(rest, []byte("]")); ok {
			text = bytes.TrimSpace(rest)
			switch string(name) {
			case "WARN":
				level = slog.LevelInfo
			case "ERR", "ERROR":
				level = slog.LevelWarn
			}
		}
	}
	for _, part := range notOurs {
		if bytes.Contains(text, part) && level == slog.LevelWarn {
			l.refused.Add(1)
			last, now := l.said.Load(), time.Now().UnixNano()
			if now-last < int64(10*time.Second) || !l.said.CompareAndSwap(last, now) {
				level = slog.LevelDebug
			}
			break
		}
	}
	l.log.Log(context.Background(), level, string(text))
	return n, nil
}
