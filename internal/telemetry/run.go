package telemetry

import (
	"context"
	"errors"
	"sync"
)

// RunInOrder runs parts side by side until ctx is done, then stops them one after the other, the first first: a part that feeds another is
// drained before the other stops. When a part fails or ends early, the rest are stopped the same way, and its error is returned.
func RunInOrder(ctx context.Context, parts ...func(context.Context) error) error {
	stopAll, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	errs := make([]error, len(parts))
	done := make([]chan struct{}, len(parts))
	stops := make([]context.CancelFunc, len(parts))
	var running sync.WaitGroup
	for i, part := range parts {
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		stops[i], done[i] = stop, make(chan struct{})
		running.Go(func() {
			defer close(done[i])
			defer cancelAll()
			errs[i] = part(partCtx)
		})
	}
	<-stopAll.Done()
	for i := range parts {
		stops[i]()
		<-done[i]
	}
	running.Wait()
	return errors.Join(errs...)
}
