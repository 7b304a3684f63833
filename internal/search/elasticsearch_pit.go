package search

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

const (
	pitKeepAlive = "1m"
	pitLifetime  = time.Minute
	// maxPITs is how many points in time this process opens in their lifetime. Each keeps files that merges would delete.
	maxPITs = 300
	// pitCloseTimeout is short: what is not closed ends by itself.
	pitCloseTimeout = time.Second
)

// pin ties the pages that follow a first one to a point in time. The index may have changed between the first page and the opening, so the first
// page has to be the same there; when it is not, the caller gets the one from there. Without a point in time the pages are of the index as it is.
func (s *Elasticsearch) pin(ctx context.Context, q Query, first part) (Page, error) {
	pit := s.openPIT(ctx, q)
	if pit == "" {
		return first.page()
	}
	in := position{PIT: pit, Opened: s.now().Unix()}
	there, err := s.run(ctx, q, in, false, bare)
	if err == nil {
		if same := there.more && slices.EqualFunc(first.Hits, there.Hits, func(a, b Hit) bool { return a.ItemID == b.ItemID }); same {
			first.next = there.next
		} else if there, err = s.run(ctx, q, in, false, whole); err == nil {
			first = there
		}
	}
	if !first.more || err != nil {
		s.closePIT(ctx, pit)
		return first.page()
	}
	page, err := first.page()
	if len(page.NextCursor) > MaxCursor { // an index of very many shards
		s.closePIT(ctx, first.next.PIT)
		first.next.PIT = ""
		return first.page()
	}
	return page, err
}

// resumeInPIT answers with a page of a point in time, or with one of the index as it is when that point is lost.
func (s *Elasticsearch) resumeInPIT(ctx context.Context, q Query, after position) (Page, error) {
	next, err := s.run(ctx, q, after, true, whole)
	if lostPIT(err) {
		after.PIT = ""
		next, err = s.run(ctx, q, after, true, whole)
	} else if err == nil && !next.more {
		s.closePIT(ctx, after.PIT)
	}
	if err != nil {
		return Page{}, err
	}
	return next.page()
}

// lostPIT: it expired or was closed, its index is gone, its node was restarted, or a new version of Elasticsearch can't read its ID.
func lostPIT(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.status == http.StatusNotFound || status.status == http.StatusBadRequest
	}
	return errors.Is(err, errPartial)
}

// openPIT returns an empty ID when there can be none now: that is no reason to fail a search.
func (s *Elasticsearch) openPIT(ctx context.Context, q Query) string {
	if !s.pits.take() {
		return ""
	}
	path := "/" + s.alias + "/_pit?keep_alive=" + pitKeepAlive
	if q.AfterFresh {
		path += "&preference=" + url.QueryEscape(freshPreference)
	}
	var answer struct {
		ID string `json:"id"`
	}
	if err := s.call(ctx, http.MethodPost, path, nil, &answer); err != nil {
		s.pits.giveBack()
		return ""
	}
	return answer.ID
}

// closePIT is a courtesy.
func (s *Elasticsearch) closePIT(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, pitCloseTimeout)
	defer cancel()
	var answer struct{}
	if s.call(ctx, http.MethodDelete, "/_pit", object{"id": id}, &answer) == nil {
		s.pits.giveBack()
	}
}

// pitQuota bounds how many points in time are open. It does not know which ones have ended early, unless they were closed here.
type pitQuota struct {
	now func() time.Time

	mu     sync.Mutex
	opened []time.Time // ascending
}

func (p *pitQuota) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	ended := 0
	for ended < len(p.opened) && now.Sub(p.opened[ended]) > pitLifetime {
		ended++
	}
	p.opened = slices.Delete(p.opened, 0, ended)
	if len(p.opened) >= maxPITs {
		return false
	}
	p.opened = append(p.opened, now)
	return true
}

func (p *pitQuota) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.opened) > 0 {
		p.opened = p.opened[1:]
	}
}
