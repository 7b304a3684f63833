//go:build linux

package reindex

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sort"
	"sync"
	"time"
)

const markers = 200

// aWord is how many items have the same word: fewer than a search counts.
const aWord = 5_000

func grownWord(n int) string { return fmt.Sprintf("grown%d", n) }

// load writes and searches at a steady pace, and keeps what searches showed.
type load struct {
	p    *platform
	http *http.Client

	mu       sync.Mutex
	acked    [][]time.Time // when each item with the word that grownWord gives was acknowledged, in order
	others   []string      // items that are changed and deleted
	phase    string
	lags     map[string][]time.Duration // by phase: how far behind the acknowledged writes each search was
	problems []string
	searches int
	writes   int
	missed   int // turns that no client was free for
}

func newLoad(p *platform) *load {
	return &load{
		p: p, lags: map[string][]time.Duration{},
		http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
}

func (l *load) enter(phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = phase
}

func (l *load) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.problems) < 20 {
		l.problems = append(l.problems, l.phase+": "+fmt.Sprintf(format, args...))
	}
}

// run goes on until ctx is done.
func (l *load) run(ctx context.Context) {
	var work sync.WaitGroup
	pace := func(perSecond int, do func(n int)) {
		turns := make(chan int, perSecond)
		for range 8 {
			work.Go(func() {
				for n := range turns {
					do(n)
				}
			})
		}
		work.Go(func() {
			defer close(turns)
			ticker := time.NewTicker(time.Second / time.Duration(perSecond))
			defer ticker.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				select {
				case turns <- n:
				default: // all clients are busy
					l.mu.Lock()
					l.missed++
					l.mu.Unlock()
				}
			}
		})
	}
	pace(amount(200, 40), l.write)
	pace(amount(50, 20), l.search)
	work.Wait()
}

func (l *load) call(method, path string, body any, headers ...string) (int, map[string]any, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	if body == nil {
		raw = nil
	}
	return l.send(method, path, raw, headers...)
}

func (l *load) send(method, path string, raw []byte, headers ...string) (int, map[string]any, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+l.p.of("api")[0].address+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+l.p.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := l.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil, err
	}
	var object map[string]any
	_ = json.Unmarshal(answer, &object) // a DELETE has none
	return res.StatusCode, object, nil
}

// write creates an item that stays, or creates, changes or deletes another.
func (l *load) write(n int) {
	create := func(title string) (string, bool) {
		status, answer, err := l.call(http.MethodPost, "/v1/items", map[string]any{"collection_id": l.p.items, "title": title, "content": "some text that is a bit longer"})
		if err != nil || status != http.StatusCreated {
			l.problem("a write: %d %v %v", status, answer, err)
			return "", false
		}
		return answer["id"].(string), true
	}
	l.mu.Lock()
	l.writes++
	var other string
	if count := len(l.others); n%4 == 3 && count > 50 {
		other = l.others[count%50]
		if n%8 == 7 {
			l.others = append(l.others[:count%50], l.others[count%50+1:]...)
		}
	}
	l.mu.Unlock()
	switch {
	case other != "" && n%8 == 7:
		if status, answer, err := l.call(http.MethodDelete, "/v1/items/"+other, nil); err != nil || status >= 300 && status != 404 {
			l.problem("a deletion: %d %v %v", status, answer, err)
		}
	case other != "":
		status, answer, err := l.call(http.MethodPatch, "/v1/items/"+other, map[string]any{"title": fmt.Sprintf("other %d", n)}, "Content-Type", "application/merge-patch+json")
		if err != nil || status >= 300 && status != 404 && status != 412 {
			l.problem("a change: %d %v %v", status, answer, err)
		}
	case n%2 == 0:
		word := n / 2 / aWord
		if _, ok := create(fmt.Sprintf("%s %d", grownWord(word), n)); ok {
			l.mu.Lock()
			for len(l.acked) <= word {
				l.acked = append(l.acked, nil)
			}
			l.acked[word] = append(l.acked[word], time.Now())
			l.mu.Unlock()
		}
	default:
		if id, ok := create(fmt.Sprintf("other %d", n)); ok {
			l.mu.Lock()
			l.others = append(l.others, id)
			l.mu.Unlock()
		}
	}
}

// search asks for the markers, which must all be there, or for the items that grow in number.
func (l *load) search(n int) {
	l.mu.Lock()
	grown := max(0, len(l.acked)-1-n/2%2) // the last word, or the one before
	word := "everlasting"
	if n%2 == 0 {
		word = grownWord(grown)
	}
	phase := l.phase
	l.searches++
	l.mu.Unlock()
	begun := time.Now()
	status, answer, err := l.call(http.MethodGet, "/v1/search?limit=5&q="+word, nil)
	total, _ := answer["total"].(float64)
	degraded, _ := answer["degraded"].(bool)
	switch {
	case err != nil || status != http.StatusOK:
		l.problem("a search: %d %v %v", status, answer, err)
	case degraded && !long: // Elasticsearch has more to do than this test
	case degraded:
		l.problem("a search was answered by PostgreSQL")
	case word == "everlasting":
		if int(total) != markers {
			l.problem("%d of %d markers were found", int(total), markers)
		}
	default:
		l.mu.Lock()
		defer l.mu.Unlock()
		if grown < len(l.acked) && int(total) < len(l.acked[grown]) {
			// The oldest write that may be missing was acknowledged then.
			l.lags[phase] = append(l.lags[phase], max(begun.Sub(l.acked[grown][int(total)]), 0))
		} else {
			l.lags[phase] = append(l.lags[phase], 0)
		}
	}
}

// lag is the p-th percentile of a phase's lags, and the worst.
func (l *load) lag(phase string, p int) (time.Duration, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lags := l.lags[phase]
	if len(lags) == 0 {
		return 0, 0
	}
	sort.Slice(lags, func(i, j int) bool { return lags[i] < lags[j] })
	return lags[len(lags)*p/100], lags[len(lags)-1]
}
