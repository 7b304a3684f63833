// Package pause waits without outliving a context.
package pause

import (
	"context"
	"time"
)

// For waits for d or for the end of ctx, whose error it returns. It returns at once when d is not positive.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
