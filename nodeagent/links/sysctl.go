package links

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const forward = "net/ipv4/ip_forward"

// ofPods are set on every host-side end of a pod's pair: route_localnet so that a node port answers on
// 127.0.0.1, rp_filter so that a pod can use no other's address, no IPv6 so that pods cannot reach the host by
// link-local addresses.
var ofPods = []setting{{"ipv4", "route_localnet", "1"}, {"ipv4", "rp_filter", "1"}, {"ipv6", "disable_ipv6", "1"}}

// setting is one sysctl of an interface.
type setting struct{ family, name, value string }

func (s setting) path(link string) string {
	return filepath.Join("net", s.family, "conf", link, s.name)
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b)), err
}

// writeSysctl sets name unless it has the value already.
func writeSysctl(name, value string) error {
	have, err := readSysctl(name)
	if err != nil {
		return err
	}
	if have == value {
		return nil
	}
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
}

// setLinkSysctls leaves out what the kernel does not have (IPv6 switched off).
func setLinkSysctls(link string, settings []setting) error {
	for _, s := range settings {
		if err := writeSysctl(s.path(link), s.value); err != nil && (s.family != "ipv6" || !errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return nil
}

// wrongLinkSysctls names those that are not as wanted.
func wrongLinkSysctls(link string, settings []setting) []string {
	var wrong []string
	for _, s := range settings {
		have, err := readSysctl(s.path(link))
		if err != nil && s.family == "ipv6" {
			continue
		}
		if err != nil || have != s.value {
			wrong = append(wrong, fmt.Sprintf("sysctl %s of %s is %q, want %q", s.name, link, have, s.value))
		}
	}
	return wrong
}

// enableForwarding lets the machine route, after it wrote down whether it did before.
func (l *Links) enableForwarding() error {
	have, err := readSysctl(forward)
	if err != nil {
		return fmt.Errorf("read sysctl %s: %w", forward, err)
	}
	if have == "1" {
		return nil
	}
	record, err := l.readRecord()
	if err != nil {
		return err
	}
	if _, known := record[forward]; !known {
		record[forward] = have
		if err := l.writeRecord(record); err != nil {
			return err
		}
	}
	if err := writeSysctl(forward, "1"); err != nil {
		return fmt.Errorf("set sysctl %s: %w", forward, err)
	}
	return nil
}

// restoreSysctls puts back what was written down, unless someone changed it since, and forgets it.
func (l *Links) restoreSysctls() error {
	record, err := l.readRecord()
	if err != nil {
		return err
	}
	if before, known := record[forward]; known {
		if have, err := readSysctl(forward); err == nil && have == "1" {
			if err := writeSysctl(forward, before); err != nil {
				return fmt.Errorf("put back sysctl %s: %w", forward, err)
			}
		}
	}
	if err := os.Remove(l.opt.Record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of sysctls: %w", err)
	}
	return nil
}

func (l *Links) readRecord() (map[string]string, error) {
	record := make(map[string]string)
	b, err := os.ReadFile(l.opt.Record)
	if errors.Is(err, fs.ErrNotExist) {
		return record, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record of sysctls: %w", err)
	}
	if err := json.Unmarshal(b, &record); err != nil {
		return nil, fmt.Errorf("record of sysctls %s: %w", l.opt.Record, err)
	}
	return record, nil
}

// writeRecord replaces the record in one step: a crash leaves the old one or the new one.
func (l *Links) writeRecord(record map[string]string) error {
	b, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode record of sysctls: %w", err)
	}
	next := l.opt.Record + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("write record of sysctls: %w", err)
	}
	if err := os.Rename(next, l.opt.Record); err != nil {
		return fmt.Errorf("write record of sysctls: %w", err)
	}
	return nil
}
