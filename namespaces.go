package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/pause"
)

const (
	// namespacesWait is how long the operator waits at its start for rights that were given just before.
	namespacesWait = 5 * time.Second
	namespacesPoll = time.Second
	// namespacesAgain is how often it looks whether it may read what it could not read at its start.
	namespacesAgain = 30 * time.Second
)

// leaveOut leaves out the namespaces that the operator may not read.
func (o *options) leaveOut(ctx context.Context, config *rest.Config) error {
	scheme, err := kinds()
	if err != nil {
		return err
	}
	api, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("make a client of the cluster: %w", err)
	}
	o.namespaces, o.leftOut, err = readableSoon(ctx, api, o.namespaces)
	return err
}

// readable tells the namespaces that the operator may read from the others. One that it may not read, because it is being deleted and the operator's Role in it is
// gone already, or was never made, would keep the caches from filling, and so the operator from looking after any.
func readable(ctx context.Context, api client.Reader, namespaces []string) (may, mayNot []string, err error) {
	for _, namespace := range namespaces {
		switch err := api.List(ctx, &v1alpha1.AtlasStackList{}, client.InNamespace(namespace), client.Limit(1)); {
		case apierrors.IsForbidden(err):
			mayNot = append(mayNot, namespace)
		case err != nil:
			return nil, nil, fmt.Errorf("look for stacks in the namespace %s: %w", namespace, err)
		default:
			may = append(may, namespace)
		}
	}
	return may, mayNot, nil
}

// readableSoon is readable when rights that were just given have had the time to be known.
func readableSoon(ctx context.Context, api client.Reader, namespaces []string) (may, mayNot []string, err error) {
	for begin := time.Now(); ; {
		may, mayNot, err = readable(ctx, api, namespaces)
		if err != nil || len(mayNot) == 0 || time.Since(begin) > namespacesWait || pause.For(ctx, namespacesPoll) != nil {
			break
		}
	}
	if err == nil && len(may) == 0 && len(namespaces) > 0 {
		err = fmt.Errorf("none of the namespaces in --watch-namespaces may be read: %s: give the operator its Role there, as the chart does", strings.Join(mayNot, ", "))
	}
	return may, mayNot, err
}

// latecomers are namespaces that the operator may not read yet. Its caches can't take one in later: it ends when it may, to be started again.
type latecomers struct {
	namespaces []string
	api        client.Reader
	again      time.Duration
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: each process has caches of its own.
func (*latecomers) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (l *latecomers) Start(ctx context.Context) error {
	log := ctrl.Log.WithName("namespaces")
	log.Info("Namespaces that may not be read are left out until they may: give the operator its Role there, or take those that are gone out of --watch-namespaces",
		"namespaces", l.namespaces)
	for pause.For(ctx, l.again) == nil {
		switch may, _, err := readable(ctx, l.api, l.namespaces); {
		case err != nil && ctx.Err() == nil:
			log.Error(err, "Look for namespaces that may be read by now")
		case len(may) > 0:
			return fmt.Errorf("%w: %s", errReadable, strings.Join(may, ", "))
		}
	}
	return nil
}

var errReadable = errors.New("more namespaces may be read than before, so that the operator has to be started again")
