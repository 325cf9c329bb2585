package probes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// hookAgent is the user agent of hooks, as in Kubernetes.
const hookAgent = "kube-lifecycle/1.37 (shoal)"

// Hook carries out a hook of a container's lifecycle, until ctx ends at the latest. An error is why it has failed: a command
// that did not end with 0, or a server that did not answer. What a server answers is its own affair, as in Kubernetes.
func (p *Prober) Hook(ctx context.Context, key Key, ip netip.Addr, c *corev1.Container, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		if p.opt.Exec == nil {
			return errors.New("commands cannot be run here")
		}
		code, output, err := p.opt.Exec(ctx, key, "", h.Exec.Command)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case code != 0:
			return fmt.Errorf("exit code %d: %s", code, clip(string(output)))
		}
		return nil
	case h.HTTPGet != nil:
		port, err := resolve(h.HTTPGet.Port, c)
		if err != nil {
			return err
		}
		resp, err := get(ctx, h.HTTPGet, ip, port, hookAgent)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
		return nil
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.New("the hook names no action")
}
