package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	unitName     = "shoal.service"
	downUnitName = "shoal-shutdown.service"
)

// unit is the agent as a systemd service. It is started by the launcher (launch.go), which is the last binary that has proven
// itself. Delegate leaves the cgroups below it to us; KillMode=process and the absence of ExecStop leave containerd and the
// pods alone when the agent is restarted or upgraded. Exit status 4 is a node that left its ring. It is started again for
// ever; the launcher slows that down.
const unit = `[Unit]
Description=Shoal, containers straight from Git
Documentation=https://github.com/shoal-dev/shoal
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=%s
KillMode=process
Restart=always
RestartSec=100ms
RestartPreventExitStatus=4
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
LimitCORE=0
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
`

// downUnit stops the pods in order when the machine goes down: what starts after another is stopped before it, and nothing but
// a shutdown stops this one.
const downUnit = `[Unit]
Description=Shoal, ends pods in order before the machine goes down
Documentation=https://github.com/shoal-dev/shoal
After=%s

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=%s
TimeoutStopSec=%d

[Install]
WantedBy=multi-user.target
`

type installOptions struct {
	root   string // where the files go: "/" but in tests
	prefix string
	start  bool
	grace  time.Duration // that pods get when the machine goes down
}

// bin and lib are where the binary lies, and what belongs to the launcher, as seen below root.
func (o installOptions) bin() string { return filepath.Join(o.root, o.prefix, "bin", "shoal") }
func (o installOptions) lib() string { return filepath.Join(o.root, o.prefix, "lib", "shoal") }

func (o installOptions) units() string { return filepath.Join(o.root, "etc/systemd/system") }

func newInstall() *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use: "install [flags] [-- AGENT FLAGS]", Short: "Install this binary and a systemd service on this machine",
		Long: `Copies this binary to /usr/local/bin/shoal and writes a systemd service for "shoal agent", enabled and started.
Everything after -- is passed to the agent. Where systemd does not run, only the files are written.

Over an older one, it is on trial from its next start on (systemctl restart shoal): when it has been started three times
within half an hour, and was never in touch with its ring for 30 seconds, the binary before it runs again, and "shoal status"
says so. A second service gives pods a while to end when the machine goes down (shoal help shutdown).`,
		RunE: func(cmd *cobra.Command, args []string) error { return install(cmd.OutOrStdout(), o, args) },
	}
	cmd.Flags().StringVar(&o.root, "root", "/", "directory to install below")
	cmd.Flags().StringVar(&o.prefix, "prefix", "/usr/local", "prefix of bin/shoal")
	cmd.Flags().BoolVar(&o.start, "start", true, "enable and start the service")
	cmd.Flags().DurationVar(&o.grace, "shutdown-grace", defaultGrace, "how long pods get when the machine goes down")
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
	for _, dir := range []string{filepath.Dir(o.bin()), o.lib(), o.units()} {
		if err := dropParts(dir); err != nil {
			return fmt.Errorf("install: %w", err)
		}
	}
	target := o.bin()
	if same, _ := sameFile(self, target); !same {
		if err := copyFile(self, target); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		fmt.Fprintln(w, "wrote", target)
	}
	if err := o.launcher(w); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	proven := filepath.Join(o.prefix, "lib", "shoal", provenName)
	start := append([]string{proven, roleLaunch, filepath.Join(o.prefix, "bin", "shoal"), "agent"}, agentArgs...)
	down := []string{proven, "shutdown", "--grace", o.grace.String()}
	if socket := agentSocket(agentArgs); socket != "" {
		down = append(down, "--server", socket)
	}
	if err := os.MkdirAll(o.units(), 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for _, u := range []struct {
		name string
		text []byte
	}{
		{unitName, fmt.Appendf(nil, unit, systemdCommand(start))},
		{downUnitName, fmt.Appendf(nil, downUnit, unitName, systemdCommand(down), int((o.grace + 10*time.Second).Seconds()))},
	} {
		path := filepath.Join(o.units(), u.name)
		if err := putFile(path, 0o644, bytes.NewReader(u.text)); err != nil {
			return fmt.Errorf("install: %w", err)
		}
		fmt.Fprintln(w, "wrote", path)
	}
	if !o.start || !systemdRuns(o.root) {
		fmt.Fprintln(w, "start it with: systemctl enable --now shoal shoal-shutdown")
		return nil
	}
	return systemctl(w, []string{"daemon-reload"}, []string{"enable", "--now", unitName, downUnitName})
}

// launcher puts this binary where the service's launcher is, if there is none, and has the installed one try again if it was
// rejected. The first binary has nothing to go back to, so it is not on trial.
func (o installOptions) launcher(w io.Writer) error {
	t, err := readTrials(o.lib())
	if err != nil {
		return err
	}
	proven := filepath.Join(o.lib(), provenName)
	if _, err := os.Stat(proven); errors.Is(err, fs.ErrNotExist) {
		if err := copyFile(o.bin(), proven); err != nil {
			return err
		}
		fmt.Fprintln(w, "wrote", proven)
		if t.Proven, err = fileID(o.bin()); err != nil {
			return err
		}
	}
	t.Binary, t.Starts, t.Rejected = "", nil, ""
	return t.write(o.lib())
}

// agentSocket is where an agent with such flags answers; "" if that is the usual place.
func agentSocket(args []string) string {
	for i, a := range args {
		if dir, ok := strings.CutPrefix(a, "--run-dir="); ok {
			return filepath.Join(dir, "agent.sock")
		}
		if a == "--run-dir" && i+1 < len(args) {
			return filepath.Join(args[i+1], "agent.sock")
		}
	}
	return ""
}

func systemdCommand(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = systemdQuote(a)
	}
	return strings.Join(quoted, " ")
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
		// The second is left as it is: to stop it is to stop the pods.
		if err := systemctl(w, []string{"disable", "--now", unitName}, []string{"disable", downUnitName}); err != nil {
			return err
		}
	}
	for _, dir := range []string{filepath.Dir(o.bin()), o.lib(), o.units()} {
		if err := dropParts(dir); err != nil {
			return fmt.Errorf("uninstall: %w", err)
		}
	}
	for _, path := range []string{
		filepath.Join(o.units(), unitName), filepath.Join(o.units(), downUnitName),
		o.bin(), filepath.Join(o.lib(), provenName), filepath.Join(o.lib(), trialName), o.lib(),
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
