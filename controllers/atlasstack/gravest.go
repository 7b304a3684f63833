package atlasstack

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/atlas-platform/atlas/controllers/apply"
)

// gravest is what a step with several failures returns: errors, which are tried again with a back-off, before what a person has to change, and that before
// what is waited for, at the time at which that is to be looked at. Joined, the first kind could hide behind another. What a person has to change is told in any
// case, all of it, and the same only once.
func gravest(failures []error) error {
	var failed []error
	var stalled *apply.Stalled
	var waiting error
	var after time.Duration
	told := map[string]bool{}
	for _, err := range failures {
		if one, ok := apply.AsWaiting(err); ok {
			waiting = cmp.Or(waiting, err)
			after = sooner(after, one.After)
		} else if one, ok := apply.AsStalled(err); ok && stalled == nil {
			stalled = &apply.Stalled{Reason: one.Reason, Message: one.Message}
			after, told[one.Message] = sooner(after, one.After), true
		} else if ok && !told[one.Message] {
			stalled.Message += "; " + one.Message
			after, told[one.Message] = sooner(after, one.After), true
		} else if ok {
			continue
		} else if err != nil && !told[err.Error()] { // several roles' objects meet the same policy
			failed = append(failed, err)
			told[err.Error()] = true
		}
	}
	switch {
	case len(failed) > 0 && stalled != nil:
		return fmt.Errorf("%w; %s", errors.Join(failed...), stalled.Message)
	case len(failed) > 0:
		return errors.Join(failed...)
	case stalled != nil:
		stalled.After = after
		return stalled
	}
	return waiting
}

// sooner is the earlier of two times to look again, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
