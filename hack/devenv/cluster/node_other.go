//go:build !linux

package cluster

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

func newNode(*process.State, *process.Console) (Cluster, error) {
	return nil, errors.New("a node of our own needs Linux; here, start Docker and type: " + installKind)
}

// Commands returns nothing: only Linux has nodes and their forwarders.
func Commands() []*cobra.Command { return nil }
