package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// runInit is PID 1 of the node, already inside its namespaces. It prepares mounts and network, then keeps every component running. When
// it ends, the kernel ends everything in the node.
func runInit(ctx context.Context, dir, programs string) error {
	if os.Getpid() != 1 {
		return errors.New("node-init runs only as the first process of a node")
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := prepareMounts(dir); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := prepareNetwork(ctx); err != nil {
		return err
	}
	if err := os.Setenv("PATH", programs+":"+os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin"); err != nil {
		return err
	}
	slog.InfoContext(ctx, "node prepared")

	// From here on only the supervisor starts and reaps processes: as PID 1 it inherits orphans, and must wait for any child.
	s := newSupervisor(filepath.Join(dir, "log"))
	var later []component
	for _, c := range components() {
		if c.afterAPI {
			later = append(later, c)
			continue
		}
		s.keep(ctx, c)
	}
	if err := waitAPI(ctx, filepath.Join("pki", "ca.crt")); err != nil {
		return err
	}
	for _, c := range later {
		s.keep(ctx, c)
	}
	<-ctx.Done()
	return nil
}

// prepareMounts gives the node its own /proc, /run, /var/lib and /var/log.
func prepareMounts(dir string) error {
	mounts := []struct {
		source, target, kind string
		flags                uintptr
	}{
		{target: "/", flags: unix.MS_REC | unix.MS_PRIVATE}, // nothing shows on the host
		{target: "/", flags: unix.MS_REC | unix.MS_SHARED},  // but pods may ask for mounts to be passed on within the node
		{source: "proc", target: "/proc", kind: "proc", flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{source: "tmpfs", target: "/run", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{source: filepath.Join(dir, "var/lib"), target: "/var/lib", flags: unix.MS_BIND},
		{source: filepath.Join(dir, "var/log"), target: "/var/log", flags: unix.MS_BIND},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// prepareNetwork makes the node's only link. There is no default route and nothing at the other end, so that no packet can leave;
// kube-proxy rewrites what goes to the Service range before it would.
func prepareNetwork(ctx context.Context) error {
	if err := ip(ctx, "link", "set", "dev", "lo", "up"); err != nil {
		return err
	}
	if err := ip(ctx, "link", "add", "name", "eth0", "type", "dummy"); err != nil {
		// A kernel without dummy links: a pair whose two ends are both here does as well.
		if err := ip(ctx, "link", "add", "name", "eth0", "type", "veth", "peer", "name", "eth0-end"); err != nil {
			return err
		}
		if err := ip(ctx, "link", "set", "dev", "eth0-end", "up"); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"link", "set", "dev", "eth0", "up"},
		{"address", "add", nodeNet, "dev", "eth0"},
		{"route", "add", serviceCIDR, "dev", "eth0"},
	} {
		if err := ip(ctx, args...); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("allow forwarding between pods: %w", err)
	}
	// Pods reach a pod on the same bridge through its Service only when bridged packets pass iptables. Built into some kernels, absent in others.
	if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0); err != nil {
		slog.WarnContext(ctx, "bridged packets don't pass iptables", "error", err)
	}
	return nil
}

func ip(ctx context.Context, args ...string) error {
	program := "ip"
	if _, err := exec.LookPath(program); err != nil {
		program = "/usr/sbin/ip"
	}
	if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// waitAPI waits until the API server says that it is ready, for as long as that takes.
func waitAPI(ctx context.Context, ca string) error {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	return poll(ctx, 100*time.Millisecond, func() (bool, error) { return ready(ctx, client, "https://"+nodeIP+":"+apiPort) == nil, nil })
}
