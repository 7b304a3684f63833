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
)

const (
	engineElasticsearch = "es"
	snippetLength       = 200
	// highlightLength is how much of a content is looked through for a snippet. Elasticsearch refuses to highlight longer texts otherwise.
	highlightLength = 500_000
)

// Elasticsearch searches an index of items.
type Elasticsearch struct {
	es    elastictransport.Interface
	alias string
}

var _ Searcher = (*Elasticsearch)(nil)

// NewElasticsearch makes the searcher over the alias.
func NewElasticsearch(es elastictransport.Interface, alias string) *Elasticsearch {
	return &Elasticsearch{es: es, alias: alias}
}

// Search implements Searcher.
func (s *Elasticsearch) Search(ctx context.Context, q Query) (Page, error) {
	q = q.normal()
	if q.nobody() {
		return q.empty(), nil
	}
	after, resumed, err := q.resume(engineElasticsearch)
	if err != nil {
		return Page{}, err
	}
	body, err := json.Marshal(searchBody(q, after, resumed))
	if err != nil {
		return Page{}, fmt.Errorf("encode search: %w", err)
	}
	var answer searchAnswer
	if err := s.call(ctx, body, &answer); err != nil {
		return Page{}, err
	}
	return answer.page(q)
}

type object = map[string]any

func searchBody(q Query, after position, resumed bool) object {
	sort, sortValues := esSort(q, after)
	body := object{
		"query": esQuery(q), "sort": sort, "size": q.Limit + 1, "track_total_hits": MaxTotal, "track_scores": q.Sort == ByRelevance,
		"_source": []string{"id", "collection_id", "title", "tags", "updated_at", "version"},
		"highlight": object{
			"encoder": "html", "pre_tags": []string{"<mark>"}, "post_tags": []string{"</mark>"}, "max_analyzed_offset": highlightLength,
			"fields": object{"content": object{
				"matched_fields": []string{"content", "content.exact"}, "fragment_size": snippetLength, "number_of_fragments": 2,
				"no_match_size": snippetLength, "order": "score",
			}},
		},
	}
	if facets := esFacets(q); len(facets) > 0 {
		body["aggs"] = facets
	}
	if resumed {
		body["search_after"] = sortValues
	}
	return body
}

type searchAnswer struct {
	TimedOut bool `json:"timed_out"`
	Shards   struct {
		Failed int `json:"failed"`
	} `json:"_shards"`
	Hits struct {
		Total struct {
			Value int64 `json:"value"`
		} `json:"total"`
		Hits []struct {
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
			} `json:"highlight"`
		} `json:"hits"`
	} `json:"hits"`
	Aggregations map[string]esBuckets `json:"aggregations"`
}

func (a *searchAnswer) page(q Query) (Page, error) {
	if a.TimedOut || a.Shards.Failed > 0 {
		return Page{}, fmt.Errorf("%w: Elasticsearch answered for a part of the index only", ErrUnavailable)
	}
	page := Page{Hits: make([]Hit, 0, len(a.Hits.Hits)), Total: min(a.Hits.Total.Value, MaxTotal)}
	for _, h := range a.Hits.Hits {
		hit := Hit{
			ItemID: h.Source.ID, CollectionID: h.Source.CollectionID, Title: h.Source.Title, Tags: h.Source.Tags,
			Snippet: strings.Join(h.Highlight.Content, " … "), UpdatedAt: h.Source.UpdatedAt, Version: h.Source.Version,
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
		return Page{}, err
	}
	if len(page.Hits) <= q.Limit {
		return page, nil
	}
	page.Hits = page.Hits[:q.Limit] // one more was asked for, to know whether there is a next page
	last := page.Hits[q.Limit-1]
	var err error
	page.NextCursor, err = q.positionOf(engineElasticsearch, last).encode()
	return page, err
}

func (s *Elasticsearch) call(ctx context.Context, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/"+s.alias+"/_search", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make search request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.es.Perform(req)
	if err != nil {
		return fmt.Errorf("%w: reach Elasticsearch: %w", ErrUnavailable, err)
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == http.StatusBadRequest:
		reason, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10)) // half a reason is better than none
		return fmt.Errorf("%w: %s", ErrQuery, reason)
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: Elasticsearch answered %d", ErrUnavailable, res.StatusCode)
	}
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
		return fmt.Errorf("%w: decode Elasticsearch's answer: %w", ErrUnavailable, err)
	}
	return nil
}
