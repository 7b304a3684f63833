package cluster

import (
	"context"
	"errors"
	"strings"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

const (
	// forwardPrefix begins the names of the processes that pass connections on.
	forwardPrefix = "forward-"
	apiForward    = "kube-apiserver"
)

func stopForwards(ctx context.Context, state *process.State) error {
	procs, err := state.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range procs {
		if strings.HasPrefix(p.Name, forwardPrefix) {
			errs = append(errs, p.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}
