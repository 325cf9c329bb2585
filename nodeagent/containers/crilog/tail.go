package crilog

import (
	"bytes"
	"io"
	"os"
)

// tailWindow is how much of the end of a file is looked at: every line costs its time and stream besides.
const tailWindow = 64 << 10

// Tail gives the end of the log at path: what was written in its last lines, at most that many and that many bytes.
// Files that were set aside do not count.
func Tail(path string, lines, most int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	from := max(0, st.Size()-tailWindow)
	b, err := io.ReadAll(io.NewSectionReader(f, from, tailWindow))
	if err != nil {
		return "", err
	}
	if from > 0 { // the first line is cut
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	var text []byte
	all := bytes.SplitAfter(b, []byte("\n"))
	if len(all[len(all)-1]) == 0 {
		all = all[:len(all)-1]
	}
	for _, line := range all[max(0, len(all)-lines):] {
		_, line, _ = bytes.Cut(line, []byte(" ")) // the time
		_, line, _ = bytes.Cut(line, []byte(" ")) // the stream
		tag, words, _ := bytes.Cut(line, []byte(" "))
		if string(tag) == "P" {
			words = bytes.TrimSuffix(words, []byte("\n"))
		}
		text = append(text, words...)
	}
	return string(text[max(0, len(text)-most):]), nil
}
