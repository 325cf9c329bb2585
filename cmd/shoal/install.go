package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

const unitName = "shoal.service"

// unit is the agent as a systemd service. Delegate leaves the cgroups below it to us; KillMode=process and the
// absence of ExecStop leave containerd and the pods alone when the agent is restarted or upgraded. Exit status 4 is a
// node that left its ring.
const unit = `[Unit]
Description=Shoal, containers straight from Git
Documentation=https://github.com/shoal-dev/shoal
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=%s
KillMode=process
Restart=always
RestartSec=1
RestartPreventExitStatus=4
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
LimitCORE=0
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
`

type installOptions struct {
	root   string // where the files go: "/" but in tests
	prefix string
	start  bool
}

func newInstall() *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use: "install [flags] [-- AGENT FLAGS]", Short: "Install this binary and a systemd service on this machine",
		Long: `Copies this binary to /usr/local/bin/shoal and writes a systemd service for "shoal agent", enabled and started.
Everything after -- is passed to the agent. Where systemd does not run, only the files are written.`,
		RunE: func(cmd *cobra.Command, args []string) error { return install(cmd.OutOrStdout(), o, args) },
	}
	cmd.Flags().StringVar(&o.root, "root", "/", "directory to install below")
	cmd.Flags().StringVar(&o.prefix, "prefix", "/usr/local", "prefix of bin/shoal")
	cmd.Flags().BoolVar(&o.start, "start", true, "enable and start the service")
	return cmd
}

func install(w io.Writer, o installOptions, agentArgs []string) error {
	if os.Geteuid() != 0 {
		return errors.New("install: needs root: sudo shoal install")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	target := filepath.Join(o.root, o.prefix, "bin", "shoal")
	if same, _ := sameFile(self, target); !same {
		if err := copyFile(self, target); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		fmt.Fprintln(w, "wrote", target)
	}
	var command strings.Builder
	command.WriteString(filepath.Join(o.prefix, "bin", "shoal") + " agent")
	for _, a := range agentArgs {
		command.WriteString(" " + systemdQuote(a))
	}
	unitPath := filepath.Join(o.root, "etc/systemd/system", unitName)
	if err := os.MkdirAll(filepath.Dir(unitPath), 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := os.WriteFile(unitPath, fmt.Appendf(nil, unit, command.String()), 0o644); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	fmt.Fprintln(w, "wrote", unitPath)
	if !o.start || !systemdRuns(o.root) {
		fmt.Fprintln(w, "start it with: systemctl enable --now shoal")
		return nil
	}
	return systemctl(w, []string{"daemon-reload"}, []string{"enable", "--now", unitName})
}

func newUninstall() *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use: "uninstall", Short: "Stop and remove the systemd service and the binary; data stays", Args: exactly(0, "no arguments"),
		Long: `Stops the service and removes it and /usr/local/bin/shoal. Pods and data stay: "shoal reset" before it removes them.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return uninstall(cmd.OutOrStdout(), o) },
	}
	cmd.Flags().StringVar(&o.root, "root", "/", "directory it was installed below")
	cmd.Flags().StringVar(&o.prefix, "prefix", "/usr/local", "prefix of bin/shoal")
	return cmd
}

func uninstall(w io.Writer, o installOptions) error {
	if os.Geteuid() != 0 {
		return errors.New("uninstall: needs root: sudo shoal uninstall")
	}
	if systemdRuns(o.root) {
		if err := systemctl(w, []string{"disable", "--now", unitName}); err != nil {
			return err
		}
	}
	for _, path := range []string{
		filepath.Join(o.root, "etc/systemd/system", unitName),
		filepath.Join(o.root, o.prefix, "bin", "shoal"),
	} {
		err := os.Remove(path)
		switch {
		case err == nil:
			fmt.Fprintln(w, "removed", path)
		case !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("uninstall: %w", err)
		}
	}
	return nil
}

// systemdRuns reports whether systemd is this machine's init, and the files are its own.
func systemdRuns(root string) bool {
	if filepath.Clean(root) != "/" {
		return false
	}
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

func systemctl(w io.Writer, calls ...[]string) error {
	for _, args := range calls {
		out, err := exec.Command("systemctl", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		fmt.Fprintln(w, "systemctl", strings.Join(args, " "))
	}
	return nil
}

// systemdQuote quotes one argument of ExecStart.
func systemdQuote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$", "%", "%%").Replace(s)
	if strings.ContainsAny(s, " \t'\"\\;") || s == "" {
		return `"` + s + `"`
	}
	return s
}

func sameFile(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	return os.SameFile(x, y), nil
}

// copyFile puts a whole copy in place of to: a running binary is replaced, not written into.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(to), ".shoal-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	if err := errors.Join(out.Chmod(0o755), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}
