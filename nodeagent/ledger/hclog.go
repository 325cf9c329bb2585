package ledger

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// library gives raft and its log a place in ours. They tell each election and snapshot at Info and call an
// ordinary start of a single voter a warning: one level less each is what it means to whoever runs the node.
type library struct {
	log  *slog.Logger
	name string
}

var _ hclog.Logger = library{}

func (l library) Log(level hclog.Level, msg string, args ...any) {
	l.log.Log(context.Background(), slogLevel(level), msg, plain(args)...)
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	case hclog.Info:
		return slog.LevelDebug
	default:
		return slog.LevelDebug - 4
	}
}

// plain makes hclog's own kinds of values text.
func plain(args []any) []any {
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	return args
}

func (l library) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l library) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l library) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l library) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l library) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l library) enabled(level hclog.Level) bool {
	return l.log.Enabled(context.Background(), slogLevel(level))
}
func (l library) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l library) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l library) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l library) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l library) IsError() bool { return l.enabled(hclog.Error) }

func (l library) ImpliedArgs() []any            { return nil }
func (l library) With(args ...any) hclog.Logger { return library{l.log.With(plain(args)...), l.name} }
func (l library) Name() string                  { return l.name }
func (l library) Named(name string) hclog.Logger {
	return library{l.log, name}
}
func (l library) ResetNamed(name string) hclog.Logger { return l.Named(name) }
func (l library) SetLevel(hclog.Level)                {}
func (l library) GetLevel() hclog.Level               { return hclog.Trace }

func (l library) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

func (l library) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(nil).Writer()
}
