package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RunInOrder runs parts side by side until ctx is done, then stops them one after the other, the first first: a part that feeds another is
// drained before the other stops. When a part fails or ends early, the rest are stopped the same way, and its error is returned. Parts that
// have not ended within the drain's time are abandoned, with an error: the process is about to end, and its work is safe to do again.
func RunInOrder(ctx context.Context, drain time.Duration, parts ...func(context.Context) error) error {
	stopAll, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	errs := make([]chan error, len(parts))
	stops := make([]context.CancelFunc, len(parts))
	for i, part := range parts {
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		stops[i], errs[i] = stop, make(chan error, 1)
		go func() {
			defer cancelAll()
			errs[i] <- part(partCtx)
		}()
	}
	<-stopAll.Done()
	timeout := time.NewTimer(drain)
	defer timeout.Stop()
	var found error
	for i := range parts {
		stops[i]()
		select {
		case err := <-errs[i]:
			found = errors.Join(found, err)
		case <-timeout.C:
			return errors.Join(found, fmt.Errorf("%w: %s", ErrDrain, drain))
		}
	}
	return found
}

// ErrDrain means that something was still at work when the time for the drain was over.
var ErrDrain = errors.New("the drain took longer than SHUTDOWN_TIMEOUT")
