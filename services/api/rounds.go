package api

import (
	"context"
	"sync"
	"time"
)

const (
	// roundTimeout bounds one look of rounds, and maxRound how many questions it is about.
	roundTimeout = 5 * time.Second
	maxRound     = 1000
)

// rounds puts the questions together of those who wait: one round is on its way at a time, and who asks meanwhile is in the next. So any number of
// them need one connection.
type rounds[Q, A any] struct {
	// look answers some questions, by their places.
	look func(ctx context.Context, questions []Q) (map[int]A, error)
	// gather is how long a round waits for more questions before it looks.
	gather time.Duration
	turn   sync.Mutex

	mu   sync.Mutex
	next *round[Q, A] // nil: nobody leads the next round yet
}

type round[Q, A any] struct {
	questions []Q
	done      chan struct{} // closed when the fields below are set
	answers   map[int]A
	err       error
}

// ask returns false when there is no answer to the question.
func (r *rounds[Q, A]) ask(ctx context.Context, q Q) (answer A, known bool, err error) {
	r.mu.Lock()
	mine := r.next
	leads := mine == nil
	if leads {
		mine = &round[Q, A]{done: make(chan struct{})}
		r.next = mine
	}
	place := len(mine.questions)
	if mine.questions = append(mine.questions, q); len(mine.questions) == maxRound {
		r.next = nil
	}
	r.mu.Unlock()
	if leads {
		r.lead(ctx, mine)
	}
	select {
	case <-mine.done:
	case <-ctx.Done():
		return answer, false, ctx.Err()
	}
	answer, known = mine.answers[place]
	return answer, known, mine.err
}

// lead asks for everybody in the round, even when the one who leads it has gone.
func (r *rounds[Q, A]) lead(ctx context.Context, mine *round[Q, A]) {
	r.turn.Lock()
	defer r.turn.Unlock()
	if r.gather > 0 {
		timer := time.NewTimer(r.gather)
		defer timer.Stop()
		<-timer.C
	}
	r.mu.Lock()
	if r.next == mine {
		r.next = nil
	}
	r.mu.Unlock()
	defer close(mine.done)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), roundTimeout)
	defer cancel()
	mine.answers, mine.err = r.look(ctx, mine.questions)
}
