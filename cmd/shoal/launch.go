package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/internal/durable"
)

// A new binary is on trial until it has proven itself: its agent ran, in touch with its ring, for a while. The service does
// not start it directly, but through the last one that has (`proven launch /usr/local/bin/shoal ...`), which counts its
// starts, and goes on itself when the new one has begun too often without proving itself. So it does not matter how early
// or in which way the new one fails. On trial a node does not say that it knows a newer engine, so the ring's data stays
// what the binary before can read.

const (
	// provenName is the last binary that proved itself, in prefix/lib/shoal.
	provenName = "proven"
	// trialName is the record of trials, beside it.
	trialName = "trial.json"
	// trialStarts within trialWithin are what a new binary gets to prove itself.
	trialStarts = 3
	trialWithin = 30 * time.Minute
	// launchBusy starts within launchWithin are too many: each waits then, for launchPause.
	launchBusy, launchWithin, launchPause = 5, 10 * time.Second, time.Second
)

// What the launcher tells the agent that it starts.
const (
	envTrial    = "SHOAL_TRIAL"    // the directory of the record: this binary is on trial
	envRejected = "SHOAL_REJECTED" // why the installed binary does not run, in words
)

// trials is what is known of the installed binary. Times are in ms since 1970.
type trials struct {
	Proven   string  `json:"proven,omitempty"`   // the installed one that proved itself
	Binary   string  `json:"binary,omitempty"`   // the installed one that is on trial
	Starts   []int64 `json:"starts,omitempty"`   // of it
	Rejected string  `json:"rejected,omitempty"` // why it is not started any more
	Launches []int64 `json:"launches,omitempty"` // the last ones, of whichever
}

func readTrials(dir string) (t trials, err error) {
	b, err := os.ReadFile(filepath.Join(dir, trialName))
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return trials{}, fmt.Errorf("record of trials: %w", err)
	}
	return t, nil
}

func (t trials) write(dir string) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, trialName), append(b, '\n')); err != nil {
		return fmt.Errorf("record of trials: %w", err)
	}
	return nil
}

// fileID tells a binary from another that is put in its place.
func fileID(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d-%d-%d", info.Sys().(*syscall.Stat_t).Ino, info.Size(), info.ModTime().UnixNano()), nil
}

// begin decides which binary is to be started at now: the installed one, on trial or not, or not that, and why. A start on
// trial is counted.
func (t *trials) begin(installed string, now time.Time) (onTrial bool, why string) {
	if installed == t.Proven {
		return false, ""
	}
	if installed != t.Binary {
		t.Binary, t.Starts, t.Rejected = installed, nil, ""
	}
	if t.Rejected != "" {
		return false, t.Rejected
	}
	t.Starts = recent(t.Starts, now, trialWithin)
	if len(t.Starts) >= trialStarts {
		t.Rejected = fmt.Sprintf("it was started %d times within %s and never was in touch with its ring for %s", len(t.Starts), trialWithin, provenAfter)
		return false, t.Rejected
	}
	t.Starts = append(t.Starts, now.UnixMilli())
	return true, ""
}

// busy tells whether starts come too quickly one after the other.
func (t *trials) busy(now time.Time) bool {
	t.Launches = recent(t.Launches, now, launchWithin)
	t.Launches = append(t.Launches, now.UnixMilli())
	return len(t.Launches) > launchBusy
}

// recent are the times that lie less than so long from now, before it or, where the clock was set back, after.
func recent(times []int64, now time.Time, within time.Duration) []int64 {
	return slices.DeleteFunc(slices.Clone(times), func(at int64) bool { return now.Sub(time.UnixMilli(at)).Abs() >= within })
}

// launch starts the installed binary, args[0], with the rest of args, in place of this process, or this binary itself if that
// one has not proven itself and may not try again. It returns only what keeps both from running.
func launch(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "shoal: launch: expected the installed binary and its arguments")
		return exitUsage
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "shoal: launch:", err)
		return exitFailed
	}
	installed, dir := args[0], filepath.Dir(self)
	t, err := readTrials(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "shoal: launch:", err) // it begins anew
	}
	if t.busy(time.Now()) {
		time.Sleep(launchPause)
	}
	why := ""
	id, err := fileID(installed)
	if err != nil {
		why = err.Error()
	} else {
		var onTrial bool
		if onTrial, why = t.begin(id, time.Now()); why == "" {
			if err = t.write(dir); err != nil && onTrial {
				why = fmt.Sprintf("its trial cannot be recorded: %v", err)
			} else {
				why = t.try(installed, dir, args[1:], onTrial)
			}
		}
	}
	_ = t.write(dir)
	why = fmt.Sprintf("%s is not started: %s", installed, why)
	fmt.Fprintln(os.Stderr, "shoal: launch:", why+"; the binary before it is")
	err = syscall.Exec(self, append([]string{"shoal"}, args[1:]...), append(launchEnv(), envRejected+"="+why))
	fmt.Fprintf(os.Stderr, "shoal: launch: %s: %v\n", self, err)
	return exitFailed
}

// try runs the installed binary. It returns why that did not even begin, which rejects one that is on trial.
func (t *trials) try(installed, dir string, args []string, onTrial bool) string {
	env := launchEnv()
	if onTrial {
		env = append(env, envTrial+"="+dir)
	}
	why := syscall.Exec(installed, append([]string{"shoal"}, args...), env).Error()
	if onTrial {
		t.Rejected = why
	}
	return why
}

func launchEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, envTrial+"=") || strings.HasPrefix(kv, envRejected+"=")
	})
}
