package api

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// maxLargeBodies is how many bodies of more than maxBody are in memory at the same time, and maxOwnLargeBodies how many of them are one user's:
	// decoded, the largest takes some 30 MiB.
	maxLargeBodies    = 4
	maxOwnLargeBodies = 2
	// slotPatience is how long a request waits for its turn.
	slotPatience = 10 * time.Second
)

// slots bounds how many things go on at the same time, all in all and for one user.
type slots struct {
	total, own int

	mu    sync.Mutex
	taken int
	users map[uuid.UUID]int
	freed chan struct{} // closed, and made anew, when a slot is given back
}

func newSlots(total, own int) *slots {
	return &slots{total: total, own: own, users: make(map[uuid.UUID]int), freed: make(chan struct{})}
}

// try takes a slot, unless the user has all of theirs or all are taken.
func (s *slots) try(user uuid.UUID) (ownTaken, allTaken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.users[user] >= s.own:
		return true, false
	case s.taken >= s.total:
		return false, true
	}
	s.taken++
	s.users[user]++
	return false, false
}

// enter waits a while for a slot.
func (s *slots) enter(ctx context.Context, user uuid.UUID) error {
	patience := time.NewTimer(slotPatience)
	defer patience.Stop()
	for {
		s.mu.Lock()
		freed := s.freed
		s.mu.Unlock()
		if own, all := s.try(user); !own && !all {
			return nil
		}
		select {
		case <-freed:
		case <-patience.C:
			return unavailable("too many large bodies are being worked on: send fewer at the same time")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *slots) leave(user uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
	close(s.freed)
	s.freed = make(chan struct{})
}
