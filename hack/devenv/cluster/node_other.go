//go:build !linux

package cluster

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

func newNode(*process.State, *process.Console) (Cluster, error) {
	return nil, errors.New("a Kubernetes node of our own needs Linux; here, start Docker and type: go install sigs.k8s.io/kind@latest")
}

// Commands returns nothing: only Linux has nodes and their forwarders.
func Commands() []*cobra.Command { return nil }

func forwardServers(context.Context, *process.State, string, map[string]int) error {
	return errors.New("pods can't reach the host: the Docker engine doesn't resolve host.docker.internal")
}
