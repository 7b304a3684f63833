package consistency

import (
	"context"
	"slices"
	"time"

	"github.com/atlas-platform/atlas/internal/pause"
)

// verdict is what a second look says about a key.
type verdict struct {
	findings []finding // none: it is right
	// version is the entity's version at that look: while it changes, nothing can be said.
	version int64
	// onTheWay: there is an event of the entity that nobody can have handled yet.
	onTheWay bool
	// name is how the report names the key, where it is not the key itself.
	name string
}

// deadLettered explains a difference.
const deadLettered = "an event of it is among the outbox's dead letters"

// blame adds a reason to what was found.
func (v *verdict) blame(reason string) {
	for i := range v.findings {
		v.findings[i].detail += "; " + reason
	}
}

// suspects are keys that looked wrong. They are looked at again until they are right, or were wrong and unchanged for long enough.
type suspects[K comparable] struct {
	opts Options
	look func(ctx context.Context, keys []K) (map[K]verdict, error)
	// confirmed is given what is wrong for certain.
	confirmed func(ctx context.Context, wrong map[K]verdict) error
	undecided *int64

	keys []K
}

func (s *suspects[K]) add(ctx context.Context, key K) error {
	s.keys = append(s.keys, key)
	if len(s.keys) < maxSuspects {
		return nil
	}
	return s.decide(ctx)
}

// decide empties the list of suspects.
func (s *suspects[K]) decide(ctx context.Context) error {
	type state struct {
		verdict verdict
		since   time.Time
	}
	keys := s.keys
	s.keys = nil
	wrong := map[K]verdict{}
	states := make(map[K]state, len(keys))
	start := time.Now()
	for moved := start; len(keys) > 0; {
		now := time.Now()
		var open []K
		for chunk := range slices.Chunk(keys, pageSize) {
			verdicts, err := s.look(ctx, chunk)
			if err != nil {
				return err
			}
			for _, key := range chunk {
				v, old := verdicts[key], states[key]
				if len(v.findings) == 0 {
					moved = now // the pipeline is at work: what waits behind this one may come as well
					continue
				}
				if old.since.IsZero() || old.verdict.version != v.version || v.onTheWay {
					old.since = now
				}
				states[key] = state{verdict: v, since: old.since}
				open = append(open, key)
			}
		}
		keys = slices.DeleteFunc(open, func(key K) bool {
			st := states[key]
			if now.Sub(st.since) < s.opts.Settle || now.Sub(moved) < s.opts.Settle && now.Sub(start) < s.opts.Patience {
				return false
			}
			wrong[key] = st.verdict
			return true
		})
		if len(keys) > 0 && now.Sub(start) >= s.opts.Patience {
			*s.undecided += int64(len(keys))
			break
		}
		if len(keys) > 0 {
			if err := pause.For(ctx, min(s.opts.Settle/5, time.Second)); err != nil {
				return err
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return s.confirmed(ctx, wrong)
}
