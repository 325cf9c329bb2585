// Command report prints how many people wrote into the guestbook, as one line of JSON, and keeps it in Redis
// under report:<day>; it is run by a CronJob. A day's report may be written again: the last one counts.
//
// Environment: REDIS (host:port, default redis:6379), DAY (2006-01-02, default today in UTC), WAIT (how long
// to wait for a Redis that is not there yet, default 20s).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/examples/images/resp"
)

// report is one day's line.
type report struct {
	Day   string `json:"day"`
	Today int64  `json:"today"`
	Total int64  `json:"total"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv, time.Now(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, env func(string) string, now time.Time, out io.Writer) error {
	day := or(env("DAY"), now.UTC().Format(time.DateOnly))
	if _, err := time.Parse(time.DateOnly, day); err != nil {
		return fmt.Errorf("DAY: %w", err)
	}
	limit, err := time.ParseDuration(or(env("WAIT"), "20s"))
	if err != nil {
		return fmt.Errorf("WAIT: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	redis := &resp.Client{Addr: or(env("REDIS"), "redis:6379")}
	defer redis.Close()
	for {
		_, err := redis.Do(ctx, "PING")
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("reach Redis at %s: %w", redis.Addr, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
	r := report{Day: day}
	if r.Total, err = redis.Int(ctx, "GET", "visitors"); err != nil {
		return fmt.Errorf("read the total: %w", err)
	}
	if r.Today, err = redis.Int(ctx, "GET", "visitors:"+day); err != nil {
		return fmt.Errorf("read the day: %w", err)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := redis.Do(ctx, "SET", "report:"+day, string(line)); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", line)
	return err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
