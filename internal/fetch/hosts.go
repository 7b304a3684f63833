package fetch

import (
	"context"
	"sync"
	"time"

	"github.com/atlas-platform/atlas/internal/pause"
)

// maxHosts bounds how many hosts are remembered that nothing is asked of now, and maxIdle the bytes of their robots.txt files.
const (
	maxHosts = 2000
	maxIdle  = 32 << 20
)

// hosts are the servers that were asked lately.
type hosts struct {
	mu   sync.Mutex
	byID map[string]*host
	idle int // bytes: the robots.txt files of hosts without users
}

// host is one server: a scheme, name and port.
type host struct {
	// turn is held by whoever asks it; the fields after it too.
	turn chan struct{}
	// free is when it may be asked again.
	free   time.Time
	robots rules
	// robotsUntil is how long robots counts; zero while it is not known. robotsErr is why it could not be had.
	robotsUntil time.Time
	robotsErr   error

	users int // of hosts' mu: those who have or wait for the turn; while there are none, all of the host is
}

// acquire waits for the turn to ask the host, and for the pause since it was asked before.
func (h *hosts) acquire(ctx context.Context, id string) (*host, error) {
	h.mu.Lock()
	if h.byID == nil {
		h.byID = make(map[string]*host)
	}
	one := h.byID[id]
	if one == nil {
		h.forgetSome()
		one = &host{turn: make(chan struct{}, 1)}
		h.byID[id] = one
	}
	if one.users == 0 {
		h.idle -= one.robots.size
	}
	one.users++
	h.mu.Unlock()
	select {
	case one.turn <- struct{}{}:
	case <-ctx.Done():
		h.leave(one)
		return nil, ctx.Err()
	}
	if err := pause.For(ctx, time.Until(one.free)); err != nil {
		h.release(one, 0)
		return nil, err
	}
	return one, nil
}

// release gives the turn back; the host rests for the pause.
func (h *hosts) release(one *host, rest time.Duration) {
	if free := time.Now().Add(rest); free.After(one.free) {
		one.free = free
	}
	<-one.turn
	h.leave(one)
}

func (h *hosts) leave(one *host) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if one.users--; one.users == 0 {
		h.idle += one.robots.size
		h.forgetRobots()
	}
}

// forgetSome makes room for another host. Those that rest are remembered longer: to forget one would be impolite.
func (h *hosts) forgetSome() {
	if len(h.byID) < maxHosts {
		return
	}
	now := time.Now()
	for id, one := range h.byID {
		if one.users == 0 && (!one.free.After(now) || len(h.byID) >= 2*maxHosts) {
			h.idle -= one.robots.size
			delete(h.byID, id)
		}
		if len(h.byID) < maxHosts*9/10 {
			return
		}
	}
}

// forgetRobots forgets the largest robots.txt files until the others fit. The hosts are remembered, with their rest; who asks one gets its file anew.
func (h *hosts) forgetRobots() {
	for h.idle > maxIdle {
		var largest *host
		for _, one := range h.byID {
			if one.users == 0 && (largest == nil || one.robots.size > largest.robots.size) {
				largest = one
			}
		}
		h.idle -= largest.robots.size
		largest.robots, largest.robotsUntil = rules{}, time.Time{}
	}
}
