// Package zone looks up time zones in tzdata that is embedded in the binary.
//
// time.LoadLocation prefers $ZONEINFO and the host's own tzdata over what a binary embeds, so two nodes could
// disagree on when a CronJob fires. Load asks nothing but its argument. zoneinfo.zip is the copy that comes with Go
// 1.26 (lib/time/zoneinfo.zip, tzdata 2025c, public domain); replacing it changes what Step decides, so it raises
// the engine version.
package zone

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"errors"
	"io"
	"strings"
	"sync"
	"time"
)

//go:embed zoneinfo.zip
var zoneinfo []byte

// files is the index of zoneinfo by name, made when first asked for; the data stays where it is.
var files = sync.OnceValue(func() map[string]*zip.File {
	r, err := zip.NewReader(bytes.NewReader(zoneinfo), int64(len(zoneinfo)))
	if err != nil {
		panic("zone: embedded tzdata: " + err.Error()) // our own bug: the file is part of the binary
	}
	m := make(map[string]*zip.File, len(r.File))
	for _, f := range r.File {
		if !strings.HasSuffix(f.Name, "/") {
			m[f.Name] = f
		}
	}
	return m
})

// Load returns the zone of that IANA name ("Europe/Oslo"), or UTC for "" and "UTC". "Local", and names that tzdata
// does not have, are errors with the words of time.LoadLocation. Names are case-sensitive. It reads its table each
// time (some microseconds): callers that ask often keep the result.
func Load(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return time.UTC, nil
	}
	f := files()[name]
	if f == nil {
		return nil, errors.New("unknown time zone " + name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it holds nothing
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(name, data)
}
