package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/shoal-dev/shoal/nodeagent/api"
)

func newExec(g *globals) *cobra.Command {
	var namespace string
	var req api.ExecRequest
	var stdin, tty bool
	cmd := &cobra.Command{
		Use: "exec [NAMESPACE/]POD [-c CONTAINER] [-it] -- COMMAND [ARG...]", Short: "Run a command in a container",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError{errors.New("expected a pod and a command: shoal exec -it web -- sh")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			pod, err := findPod(cmd, g, namespace, args[0])
			if err != nil {
				return err
			}
			req.Args = args[1:]
			s := api.Streams{Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr()}
			if stdin {
				s.Stdin = cmd.InOrStdin()
			}
			if f, ok := cmd.InOrStdin().(*os.File); tty && ok && term.IsTerminal(int(f.Fd())) {
				restore, err := raw(f, &req, &s)
				if err != nil {
					return err
				}
				defer restore()
			}
			req.TTY = tty
			code, err := g.client().Exec(cmd.Context(), pod.Namespace, pod.Name, req, s)
			if err != nil {
				return err
			}
			if code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the pod")
	cmd.Flags().StringVarP(&req.Container, "container", "c", "", "container; default: the first")
	cmd.Flags().BoolVarP(&stdin, "stdin", "i", false, "pass standard input on")
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	return cmd
}

// raw hands the terminal to the command in the container and tells it each change of size.
func raw(f *os.File, req *api.ExecRequest, s *api.Streams) (restore func(), err error) {
	fd := int(f.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	size := func() api.Size {
		w, h, err := term.GetSize(fd)
		if err != nil {
			return api.Size{Width: 80, Height: 24}
		}
		return api.Size{Width: uint16(w), Height: uint16(h)}
	}
	req.Size = size()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	sizes := make(chan api.Size)
	over := make(chan struct{})
	go func() {
		for {
			select {
			case <-changed:
			case <-over:
				return
			}
			select {
			case sizes <- size():
			case <-over:
				return
			}
		}
	}()
	s.Resize = sizes
	return func() {
		signal.Stop(changed)
		close(over)
		_ = term.Restore(fd, old)
	}, nil
}
