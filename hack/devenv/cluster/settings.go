package cluster

import (
	"bytes"
	"embed"
	"os"
	"path/filepath"
	"text/template"

	"github.com/atlas-platform/atlas/hack/devenv/images"
)

// The addresses are the same in every node: each has its own network namespace. 198.18.0.0/15 is reserved for tests of networks, so
// that no machine has a server there that the node would hide.
const (
	nodeIP       = "198.18.77.2"
	nodeNet      = nodeIP + "/30"
	nodeName     = "node"
	clusterName  = "atlas"
	serviceCIDR  = "10.96.0.0/16"
	apiClusterIP = "10.96.0.1"
	dnsClusterIP = "10.96.0.10"
	podCIDR      = "10.244.0.0/24"
	apiPort      = "6443"
)

//go:embed templates
var templates embed.FS

// settings are what differs between two nodes. Up writes them, and PID 1 reads them again.
type settings struct {
	Dir         string // the node's folder in the state
	Programs    string // folder of the built programs
	Cgroup      string // name of the node's group in each hierarchy
	Snapshotter string
	PauseRef    string
	CoreDNSRef  string
	Archives    []images.Image // of the two
	Fingerprint string         // of everything else that makes a node
	Complete    bool           // the start went through to its end
}

func (settings) PodCIDR() string      { return podCIDR }
func (settings) DNSClusterIP() string { return dnsClusterIP }

func (s settings) render(name string) ([]byte, error) {
	t, err := template.ParseFS(templates, "templates/"+name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, s)
	return out.Bytes(), err
}

// write lays out the node's folder: configuration files, certificates, kubeconfigs, and folders for what the components write.
func (s settings) write() error {
	for _, d := range []string{"pki", "cni", "log", "var/lib", "var/log"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, d), 0o700); err != nil {
			return err
		}
	}
	// Pods that don't run as root pass through this one on the way to their volumes.
	if err := os.Chmod(filepath.Join(s.Dir, "var/lib"), 0o755); err != nil {
		return err
	}
	for file, name := range map[string]string{"containerd.toml": "containerd.toml", "kubelet.yaml": "kubelet.yaml", "cni/10-bridge.conflist": "bridge.conflist"} {
		content, err := s.render(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.Dir, file), content, 0o600); err != nil {
			return err
		}
	}
	pki := filepath.Join(s.Dir, "pki")
	if err := writePKI(pki); err != nil {
		return err
	}
	for _, holder := range []string{"admin", "kubelet"} {
		if err := writeKubeconfig(filepath.Join(s.Dir, holder+".kubeconfig"), "https://"+nodeIP+":"+apiPort, pki, holder); err != nil {
			return err
		}
	}
	return nil
}
