// Command prog is what runs inside test images. Its arguments are steps, divided by "then":
//
//	prog print TEXT...        a line on stdout
//	prog fail TEXT...         a line on stderr
//	prog lines N MS           N numbered lines, MS apart; 0 lines: without end
//	prog env | id | cat FILE  what it sees
//	prog write FILE TEXT      makes a file
//	prog eat MB               touches that much memory
//	prog spin                 uses a CPU without end
//	prog child STEP...        runs prog with the step as a child, and waits
//	prog hop N                N processes that are another one all the time: each forks and exits
//	prog serve ADDR           HTTP: answers with the host's name
//	prog ignore SIG           goes on when the signal comes (TERM, INT, USR1)
//	prog trap SIG CODE        exits with the code when the signal comes
//	prog tty                  says whether stdin is a terminal, and its size
//	prog copy                 stdin to stdout
//	prog sleep SECONDS | exit CODE
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	args := os.Args[1:]
	for len(args) > 0 {
		step := args
		if i := slices.Index(args, "then"); i >= 0 {
			step, args = args[:i], args[i+1:]
		} else {
			args = nil
		}
		if err := do(step[0], step[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "prog:", err)
			os.Exit(1)
		}
	}
}

func do(name string, args []string) error {
	switch name {
	case "print":
		fmt.Println(strings.Join(args, " "))
	case "fail":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "lines":
		n, pause := number(args[0]), time.Duration(number(args[1]))*time.Millisecond
		for i := 0; n == 0 || i < n; i++ {
			fmt.Println("line", i)
			time.Sleep(pause)
		}
	case "env":
		for _, kv := range os.Environ() {
			fmt.Println(kv)
		}
	case "id":
		groups, _ := os.Getgroups()
		slices.Sort(groups)
		host, _ := os.Hostname()
		dir, _ := os.Getwd()
		fmt.Println("uid", os.Getuid(), "gid", os.Getgid(), "groups", groups, "host", host, "dir", dir, "pid", os.Getpid())
	case "cat":
		b, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		os.Stdout.Write(b)
	case "write":
		return os.WriteFile(args[0], []byte(strings.Join(args[1:], " ")), 0o644)
	case "eat":
		for range number(args[0]) {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			kept = append(kept, b)
		}
		fmt.Println("ate", args[0])
	case "spin":
		for { //nolint:staticcheck // it is here to use a whole processor
		}
	case "child":
		c := exec.Command("/proc/self/exe", args...)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Run(); err != nil {
			fmt.Println("child:", err)
		}
	case "hop":
		for range number(args[0]) {
			if pid, _, _ := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0); pid == 0 {
				hop()
			}
		}
	case "serve":
		host, _ := os.Hostname()
		return http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, host, r.URL.Path)
		}))
	case "ignore":
		signal.Ignore(signals[args[0]])
	case "trap":
		got := make(chan os.Signal, 1)
		signal.Notify(got, signals[args[0]])
		go func() {
			<-got
			fmt.Println("got", args[0])
			os.Exit(number(args[1]))
		}()
	case "tty":
		w, h, err := term.GetSize(0)
		fmt.Println("terminal", term.IsTerminal(0), w, h, err)
	case "copy":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "sleep":
		s, err := strconv.ParseFloat(args[0], 64)
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(s * float64(time.Second)))
	case "exit":
		os.Exit(number(args[0]))
	default:
		return fmt.Errorf("unknown step %q", name)
	}
	return nil
}

// hop never returns. Nothing of the runtime may be used: of its threads the fork has left one.
func hop() {
	for {
		if pid, _, _ := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0); pid != 0 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

var kept [][]byte // what eat holds on to

var signals = map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "USR1": syscall.SIGUSR1, "QUIT": syscall.SIGQUIT}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prog:", err)
		os.Exit(2)
	}
	return n
}
