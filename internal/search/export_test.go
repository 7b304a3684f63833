package search

import "time"

// SetClock makes the searcher tell the time by now.
func SetClock(s *Elasticsearch, now func() time.Time) { s.now = now }

// PITOf is the point in time that a cursor is of.
func PITOf(cursor string) (string, error) {
	p, err := decodePosition(cursor)
	return p.PIT, err
}

// UsePITs acts as if as many points in time were open as may be.
func UsePITs(s *Elasticsearch) {
	for s.pits.take() {
	}
}
