package ring

import (
	"bytes"
	"context"
	"log/slog"
)

// lineLogger makes the libraries' lines, "[WARN] memberlist: text", records of ours. What they call an error is
// mostly a packet that could not be read or a member that did not answer: a warning to whoever runs the node.
type lineLogger struct{ log *slog.Logger }

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
	l.log.Log(context.Background(), level, string(text))
	return n, nil
}
