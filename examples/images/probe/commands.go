package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func exit(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("exit", flag.ExitOnError)
	after := flags.Duration("after", 0, "")
	_ = flags.Parse(args)
	code, err := strconv.Atoi(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("exit code: %w", err)
	}
	wait(ctx, *after)
	os.Exit(code)
	return nil
}

func sleep(ctx context.Context, args []string) error {
	if len(args) != 1 || args[0] == "forever" {
		<-ctx.Done()
		return nil
	}
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	wait(ctx, d)
	return nil
}

func lines(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("lines", flag.ExitOnError)
	rate := flags.Int("rate", 10, "")
	count := flags.Int("count", 0, "")
	size := flags.Int("size", 0, "")
	onStderr := flags.Bool("stderr", false, "")
	_ = flags.Parse(args)
	var out io.Writer = os.Stdout
	if *onStderr {
		out = os.Stderr
	}
	filler := make([]byte, *size)
	for i := range filler {
		filler[i] = 'x'
	}
	start := time.Now()
	for i := 0; (*count == 0 || i < *count) && ctx.Err() == nil; i++ {
		if *rate > 0 {
			wait(ctx, time.Until(start.Add(time.Duration(i)*time.Second/time.Duration(*rate))))
		}
		if _, err := fmt.Fprintf(out, "line %d%s\n", i, filler); err != nil {
			return err
		}
	}
	return nil
}

func trap(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("trap", flag.ExitOnError)
	linger := flags.Duration("linger", 0, "")
	code := flags.Int("code", 0, "")
	ignore := flags.Bool("ignore", false, "")
	_ = flags.Parse(args)
	got := make(chan os.Signal, 8)
	signal.Notify(got, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1)
	fmt.Println("trap: waiting")
	for s := range got {
		fmt.Println("trap: got", s)
		if !*ignore {
			time.Sleep(*linger)
			fmt.Println("trap: bye")
			os.Exit(*code)
		}
	}
	return nil
}

func alloc(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("alloc", flag.ExitOnError)
	step := flags.Int("step", 8, "")
	child := flags.Bool("child", false, "")
	_ = flags.Parse(args)
	if *child { // only the child grows: what the kernel kills is not the container's first process
		cmd := exec.CommandContext(ctx, "/proc/self/exe", "alloc", "-step", strconv.Itoa(*step), flags.Arg(0))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err := cmd.Run()
		fmt.Println("alloc: child:", err)
		<-ctx.Done()
		return nil
	}
	total, err := strconv.Atoi(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("MiB: %w", err)
	}
	var held [][]byte
	for have := 0; have < total; have += *step {
		b := make([]byte, *step<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
	}
	fmt.Printf("alloc: holding %d MiB\n", len(held)**step)
	<-ctx.Done()
	return nil
}

func burn(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("burn", flag.ExitOnError)
	threads := flags.Int("threads", 1, "")
	_ = flags.Parse(args)
	d, err := time.ParseDuration(flags.Arg(0))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all sync.WaitGroup
	for range *threads {
		all.Go(func() {
			for ctx.Err() == nil {
			}
		})
	}
	all.Wait()
	return nil
}

func lookup(ctx context.Context, args []string) error {
	for _, name := range args {
		found, err := net.DefaultResolver.LookupHost(ctx, name)
		if err != nil {
			return err
		}
		slices.Sort(found)
		for _, a := range found {
			fmt.Println(a)
		}
	}
	return nil
}

func get(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	count := flags.Int("count", 1, "")
	every := flags.Duration("every", 0, "")
	timeout := flags.Duration("timeout", 5*time.Second, "")
	_ = flags.Parse(args)
	client := &http.Client{Timeout: *timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	bad := 0
	for i := 0; i < *count && ctx.Err() == nil; i++ {
		if i > 0 {
			wait(ctx, *every)
		}
		text, err := fetch(ctx, client, flags.Arg(0))
		if err != nil {
			bad++
			fmt.Fprintln(os.Stderr, "get:", err)
			continue
		}
		fmt.Println(text)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d requests failed", bad, *count)
	}
	return nil
}

func fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode/100 != 2 {
		return "", fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), nil
}

func environment(context.Context, []string) error {
	all := os.Environ()
	slices.Sort(all)
	for _, e := range all {
		fmt.Println(e)
	}
	return nil
}

func cat(_ context.Context, args []string) error {
	for _, name := range args {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		os.Stdout.Write(b)
	}
	return nil
}

func list(_ context.Context, args []string) error {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	for _, dir := range args {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			var uid, gid uint32
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				uid, gid = st.Uid, st.Gid
			}
			to := ""
			if info.Mode()&fs.ModeSymlink != 0 {
				to, _ = os.Readlink(filepath.Join(dir, e.Name()))
				to = " -> " + to
			}
			fmt.Fprintf(w, "%s %d:%d %d %s%s\n", info.Mode(), uid, gid, info.Size(), e.Name(), to)
		}
	}
	return nil
}

func write(_ context.Context, args []string) error {
	if len(args) != 2 {
		return errors.New("write FILE TEXT")
	}
	return os.WriteFile(args[0], []byte(args[1]+"\n"), 0o644)
}

// wait sleeps for d, or until the program is to end.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
