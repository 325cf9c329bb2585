// Package crilog writes a container's output in the format of Kubernetes' container runtime interface:
//
//	2026-11-22T00:40:17.123456789Z stdout F one whole line
//	2026-11-22T00:40:17.123456790Z stdout P the first part of a line longer than 16 KiB
//
// When the file has reached its size it becomes <file>.<time> and a new one is begun; of those set aside the
// oldest go first.
package crilog

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Defaults, as kubelet has them.
const (
	DefaultBytes = 10 << 20
	DefaultFiles = 5
)

// partBytes is how much of a line goes into one record at most; containerd's CRI has the same limit.
const partBytes = 16 << 10

// stampFormat has a fixed width, so that rotated files sort by age.
const stampFormat = "20060102-150405.000000000"

// Log is one container's log file. Both of its streams write to it.
type Log struct {
	path  string
	bytes int64
	files int

	mu   sync.Mutex // guards what follows
	f    *os.File
	size int64
	buf  []byte
	err  error // the last write's, so that a full disk is reported once and not for every line
}

// Open begins or goes on with the log at path. It is rotated past bytes, and files of them are kept in all,
// the current one included; values below 1 mean the defaults.
func Open(path string, bytes int64, files int) (*Log, error) {
	if bytes < 1 {
		bytes = DefaultBytes
	}
	if files < 1 {
		files = DefaultFiles
	}
	l := &Log{path: path, bytes: bytes, files: files}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
			return err
		}
		f, err = os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	}
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size = f, st.Size()
	return nil
}

// Copy reads a stream until its end and writes it line by line under the given name, "stdout" or "stderr".
// A disk that refuses lines loses them and does not stop the container; Copy returns the last such error.
func (l *Log) Copy(stream string, r io.Reader) error {
	br := bufio.NewReaderSize(r, partBytes)
	for {
		line, err := br.ReadSlice('\n')
		switch {
		case err == nil:
			l.write(stream, "F", line[:len(line)-1])
		case errors.Is(err, bufio.ErrBufferFull):
			l.write(stream, "P", line)
		default:
			if len(line) > 0 {
				l.write(stream, "F", line)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
				err = nil
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			return errors.Join(err, l.err)
		}
	}
}

func (l *Log) write(stream, tag string, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := time.Now().UTC().AppendFormat(l.buf[:0], "2006-01-02T15:04:05.000000000Z")
	b = append(b, ' ')
	b = append(b, stream...)
	b = append(b, ' ')
	b = append(b, tag...)
	b = append(b, ' ')
	b = append(b, line...)
	b = append(b, '\n')
	l.buf = b
	if l.size > 0 && l.size+int64(len(b)) > l.bytes {
		l.rotate()
	}
	if l.f == nil {
		if l.err = l.open(); l.err != nil {
			return
		}
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	l.err = err
}

// rotate sets the current file aside. If it cannot, the file goes on growing: better than losing its lines.
func (l *Log) rotate() {
	if err := os.Rename(l.path, l.path+"."+time.Now().UTC().Format(stampFormat)); err != nil && !errors.Is(err, os.ErrNotExist) {
		l.err = err
		return
	}
	l.f.Close()
	l.f = nil
	old := Rotated(l.path)
	for len(old) > l.files-1 {
		os.Remove(old[0])
		old = old[1:]
	}
}

// Rotated lists the files that the log at path was set aside as, oldest first.
func Rotated(path string) []string {
	old, _ := filepath.Glob(globQuote(path) + ".[0-9]*")
	slices.Sort(old)
	return old
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// globQuote makes path stand for itself in a pattern.
func globQuote(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}
