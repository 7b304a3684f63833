package search

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

const (
	engineElasticsearch = "es"
	snippetLength       = 200
	// highlightLength is how much of a content is looked through for a snippet. Elasticsearch refuses to highlight longer texts otherwise.
	highlightLength = 500_000
	opaqueID        = "atlas-search"
	freshPreference = "atlas-fresh"
)

// Elasticsearch searches an index of items.
type Elasticsearch struct {
	es    elastictransport.Interface
	alias string
	// foreign is true when the index is not of English words.
	foreign bool
	// gate knows which indices have the items; nil believes any.
	gate *Gate
	now  func() time.Time
	pits pitQuota
}

var _ Searcher = (*Elasticsearch)(nil)

// NewElasticsearch makes the searcher over the alias.
func NewElasticsearch(es elastictransport.Interface, alias string) *Elasticsearch {
	return &Elasticsearch{es: es, alias: alias, now: time.Now, pits: pitQuota{now: time.Now}}
}

// In says which language the index has, of those of elastic.Languages.
func (s *Elasticsearch) In(language string) *Elasticsearch {
	s.foreign = language != elastic.English
	return s
}

// Search implements Searcher. The pages after a first one are of one point in time, so that none of them repeats or skips what changes
// meanwhile. Where that point is lost, or MaxMoment ago, they go on in the index as it is.
func (s *Elasticsearch) Search(ctx context.Context, q Query) (Page, error) {
	q = q.normal()
	q.foreign = s.foreign
	if q.nobody() {
		return q.empty(), nil
	}
	after, resumed, err := q.resume(engineElasticsearch)
	switch {
	case err != nil:
		return Page{}, err
	case after.PIT != "" && s.now().Sub(time.Unix(after.Opened, 0)) > MaxMoment:
		after.PIT = ""
	case after.PIT != "":
		return s.resumeInPIT(ctx, q, after)
	}
	part, err := s.run(ctx, q, after, resumed, whole)
	if err == nil && !resumed {
		err = s.reliable(ctx, part.index)
	}
	switch {
	case err != nil:
		return Page{}, err
	case part.more && !resumed:
		return s.pin(ctx, q, part)
	case part.Total == 0 && !resumed && q.Correct:
		part.Corrections = s.corrections(ctx, q)
	}
	return part.page()
}

// part is a page and where the next one starts.
type part struct {
	Page
	more bool
	next position
	// index is the name of the index that answered; empty when nothing was found.
	index string
}

func (p part) page() (Page, error) {
	if !p.more {
		return p.Page, nil
	}
	var err error
	p.NextCursor, err = p.next.encode()
	return p.Page, err
}

// detail is how much of the hits is asked for.
type detail bool

const (
	whole detail = true
	// bare is what tells hits and their places apart.
	bare detail = false
)

// run asks for one page, in after's point in time if it has one.
func (s *Elasticsearch) run(ctx context.Context, q Query, after position, resumed bool, d detail) (part, error) {
	path := "/_search"
	if after.PIT == "" {
		path = "/" + s.alias + "/_search" + preference(q)
	}
	var answer searchAnswer
	if err := s.call(ctx, http.MethodPost, path, searchBody(q, after, resumed, d), &answer); err != nil {
		return part{}, err
	}
	out, err := answer.part(q)
	out.next.PIT, out.next.Opened = after.PIT, after.Opened
	if answer.PIT != "" {
		out.next.PIT = answer.PIT // the newest one counts
	}
	return out, err
}

// preference sends a search to the copy of the index that Fresh asks.
func preference(q Query) string {
	if q.AfterFresh {
		return "?preference=" + freshPreference
	}
	return ""
}

type object = map[string]any

func searchBody(q Query, after position, resumed bool, d detail) object {
	sort, sortValues := esSort(q, after)
	body := object{"query": esQuery(q), "sort": sort, "size": q.Limit + 1, "track_scores": q.Sort == ByRelevance}
	if d == bare {
		body["track_total_hits"], body["_source"] = false, []string{"id", "updated_at"}
	} else {
		body["track_total_hits"], body["_source"] = MaxTotal, []string{"id", "collection_id", "title", "tags", "updated_at", "version"}
		body["highlight"] = object{
			"encoder": "html", "pre_tags": []string{"<mark>"}, "post_tags": []string{"</mark>"}, "max_analyzed_offset": highlightLength,
			"fields": object{
				"content": object{
					"matched_fields": []string{"content", "content.exact"}, "fragment_size": snippetLength, "number_of_fragments": 2,
					"no_match_size": snippetLength, "order": "score",
				},
				"extract": object{
					"matched_fields": []string{"extract", "extract.exact"}, "fragment_size": snippetLength, "number_of_fragments": 2, "order": "score",
				},
			},
		}
		if facets := esFacets(q); len(facets) > 0 {
			body["aggs"] = facets
		}
	}
	if resumed {
		body["search_after"] = sortValues
	}
	if after.PIT != "" {
		body["pit"] = object{"id": after.PIT, "keep_alive": pitKeepAlive}
	}
	return body
}

type searchAnswer struct {
	PIT      string `json:"pit_id"`
	TimedOut bool   `json:"timed_out"`
	Shards   struct {
		Failed int `json:"failed"`
	} `json:"_shards"`
	Hits struct {
		Total struct {
			Value int64 `json:"value"`
		} `json:"total"`
		Hits []struct {
			Index  string   `json:"_index"`
			Score  *float64 `json:"_score"`
			Source struct {
				ID           uuid.UUID `json:"id"`
				CollectionID uuid.UUID `json:"collection_id"`
				Title        string    `json:"title"`
				Tags         []string  `json:"tags"`
				UpdatedAt    time.Time `json:"updated_at"`
				Version      int64     `json:"version"`
			} `json:"_source"`
			Highlight struct {
				Content []string `json:"content"`
				Extract []string `json:"extract"`
			} `json:"highlight"`
		} `json:"hits"`
	} `json:"hits"`
	Aggregations map[string]esBuckets `json:"aggregations"`
}

// partial is an error when the answer is not about the whole index.
func (a *searchAnswer) partial() error {
	if a.TimedOut || a.Shards.Failed > 0 {
		return errPartial
	}
	return nil
}

// index is the name of the index that answered; empty when nothing was found.
func (a *searchAnswer) index() string {
	if len(a.Hits.Hits) == 0 {
		return ""
	}
	return a.Hits.Hits[0].Index
}

func (a *searchAnswer) part(q Query) (part, error) {
	if err := a.partial(); err != nil {
		return part{}, err
	}
	page := Page{Hits: make([]Hit, 0, len(a.Hits.Hits)), Total: min(a.Hits.Total.Value, MaxTotal)}
	for _, h := range a.Hits.Hits {
		hit := Hit{
			ItemID: h.Source.ID, CollectionID: h.Source.CollectionID, Title: h.Source.Title, Tags: h.Source.Tags,
			Snippet: strings.Join(h.Highlight.Content, " … "), ExtractSnippet: strings.Join(h.Highlight.Extract, " … "), UpdatedAt: h.Source.UpdatedAt, Version: h.Source.Version,
		}
		if h.Score != nil {
			hit.Score = *h.Score
		}
		if hit.Tags == nil {
			hit.Tags = []string{}
		}
		page.Hits = append(page.Hits, hit)
	}
	if err := a.facets(q, &page); err != nil {
		return part{}, err
	}
	if len(page.Hits) <= q.Limit {
		return part{Page: page, index: a.index()}, nil
	}
	page.Hits = page.Hits[:q.Limit] // one more was asked for, to know whether there is a next page
	return part{Page: page, index: a.index(), more: true, next: q.positionOf(engineElasticsearch, page.Hits[q.Limit-1])}, nil
}

// errPartial can mean an outage, or a point in time of which a part is lost.
var errPartial = fmt.Errorf("%w: Elasticsearch answered for a part of the index only", ErrUnavailable)

// statusError is an answer that is none.
type statusError struct {
	status int
	reason string
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("Elasticsearch answered %d %s", e.status, e.reason))
}

// Unwrap tells the caller's fault from an outage.
func (e *statusError) Unwrap() error {
	if e.status == http.StatusBadRequest {
		return ErrQuery
	}
	return ErrUnavailable
}

// call sends a request and decodes the answer.
func (s *Elasticsearch) call(ctx context.Context, method, path string, body, answer any) error {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return fmt.Errorf("encode a request to Elasticsearch: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, path, &content)
	if err != nil {
		return fmt.Errorf("make a request to Elasticsearch: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// Elasticsearch's slow log and task list name both. The opaque ID says who asks; it must not differ from request to request, because
	// Elasticsearch logs each deprecation once for each.
	req.Header.Set("X-Opaque-Id", opaqueID)
	if t := telemetry.TraceFrom(ctx); t.Parent != "" {
		req.Header.Set("traceparent", t.Parent)
	}
	res, err := s.es.Perform(req)
	if err != nil {
		return fmt.Errorf("%w: reach Elasticsearch: %w", ErrUnavailable, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // half a reason is better than none
		return s.blame(ctx, path, &statusError{status: res.StatusCode, reason: string(reason)})
	}
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		return fmt.Errorf("%w: decode Elasticsearch's answer: %w", ErrUnavailable, err)
	}
	return nil
}
