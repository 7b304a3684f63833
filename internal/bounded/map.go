// Package bounded has a map that never grows beyond a size, for what is cheap to lose and must not be a way to fill the memory.
package bounded

import (
	"math/rand/v2"
	"sync"
)

// sample is how many entries are looked at to find one to forget: enough to find a bad one, and the same work however large the map is.
const sample = 8

// Map keeps at most a number of entries. When it is full, a new one takes the place of the one with the lowest rank among a few at random.
// It is safe for concurrent use.
type Map[K comparable, V any] struct {
	mu      sync.Mutex
	max     int
	rank    func(V) int64
	places  map[K]int // in entries
	entries []entry[K, V]
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New returns a map of at most max entries, of which rank says how much they are worth.
func New[K comparable, V any](maxEntries int, rank func(V) int64) *Map[K, V] {
	return &Map[K, V]{max: maxEntries, rank: rank, places: make(map[K]int)}
}

// Get returns the entry of a key.
func (m *Map[K, V]) Get(key K) (value V, found bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if place, found := m.places[key]; found {
		return m.entries[place].value, true
	}
	return value, false
}

// Put sets the entry of a key.
func (m *Map[K, V]) Put(key K, value V) { m.Update(key, func(V) V { return value }) }

// Update replaces the entry of a key, the zero value if there is none, by what change makes of it. Nobody else sees the map meanwhile.
func (m *Map[K, V]) Update(key K, change func(V) V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if place, found := m.places[key]; found {
		m.entries[place].value = change(m.entries[place].value)
		return
	}
	if len(m.entries) >= m.max {
		m.remove(m.worst())
	}
	var none V
	m.places[key] = len(m.entries)
	m.entries = append(m.entries, entry[K, V]{key, change(none)})
}

// Delete forgets a key.
func (m *Map[K, V]) Delete(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if place, found := m.places[key]; found {
		m.remove(place)
	}
}

// Len is the number of entries.
func (m *Map[K, V]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

func (m *Map[K, V]) worst() int {
	worst, lowest := 0, int64(0)
	for i := range sample {
		place := rand.IntN(len(m.entries)) //nolint:gosec // no secret depends on it
		if rank := m.rank(m.entries[place].value); i == 0 || rank < lowest {
			worst, lowest = place, rank
		}
	}
	return worst
}

// remove puts the last entry into the place that becomes free.
func (m *Map[K, V]) remove(place int) {
	delete(m.places, m.entries[place].key)
	end := len(m.entries) - 1
	if place != end {
		m.entries[place] = m.entries[end]
		m.places[m.entries[place].key] = place
	}
	m.entries[end] = entry[K, V]{}
	m.entries = m.entries[:end]
}
