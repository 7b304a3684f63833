package consistency

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/google/uuid"
)

// pitKeepAlive is how long Elasticsearch keeps the point in time after each page.
const pitKeepAlive = "5m"

// document is what the index says of one document without its contents.
type document struct {
	ID      string // _id
	Key     string // the field id, by which the documents are ordered; empty when it is none
	Version int64
}

// proper tells whether the document can be of an item at all.
func (d document) proper() bool { return d.Key == d.ID && isID(d.ID) }

// isID tells whether the text is an id as Atlas writes it: only these have the order of the ids.
func isID(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.String() == text
}

// documents reads all documents of one point in time in the order of their field id; those without it come last.
type documents struct {
	checker *Checker
	pit     string
	after   json.RawMessage // the last document's place
}

func (c *Checker) openDocuments(ctx context.Context) (*documents, error) {
	var answer struct {
		ID string `json:"id"`
	}
	if err := c.call(ctx, http.MethodPost, "/"+c.alias+"/_pit?keep_alive="+pitKeepAlive, nil, &answer); err != nil {
		return nil, fmt.Errorf("open the index: %w", err)
	}
	return &documents{checker: c, pit: answer.ID}, nil
}

// close frees the point in time; it would end by itself.
func (d *documents) close(ctx context.Context) {
	_ = d.checker.call(ctx, http.MethodDelete, "/_pit", map[string]any{"id": d.pit}, nil) // a courtesy
}

func (d *documents) page(ctx context.Context) ([]document, error) {
	request := map[string]any{
		"size": pageSize, "_source": false, "version": true, "track_total_hits": false,
		"pit":  map[string]any{"id": d.pit, "keep_alive": pitKeepAlive},
		"sort": []any{map[string]any{"id": map[string]any{"order": "asc", "missing": "_last", "unmapped_type": "keyword"}}},
	}
	if d.after != nil {
		request["search_after"] = d.after
	}
	var answer struct {
		PIT    string `json:"pit_id"`
		Shards struct {
			Failed int `json:"failed"`
		} `json:"_shards"`
		Hits struct {
			Hits []struct {
				ID      string          `json:"_id"`
				Version int64           `json:"_version"`
				Sort    json.RawMessage `json:"sort"`
			} `json:"hits"`
		} `json:"hits"`
	}
	if err := d.checker.call(ctx, http.MethodPost, "/_search", request, &answer); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	if answer.Shards.Failed > 0 {
		return nil, fmt.Errorf("read the index: %d shards did not answer", answer.Shards.Failed)
	}
	d.pit = answer.PIT
	out := make([]document, len(answer.Hits.Hits))
	for i, hit := range answer.Hits.Hits {
		out[i] = document{ID: hit.ID, Version: hit.Version}
		var place []any
		if err := json.Unmarshal(hit.Sort, &place); err != nil || len(place) == 0 {
			return nil, fmt.Errorf("read the index: unexpected place of document %q", hit.ID)
		}
		out[i].Key, _ = place[0].(string) // null where the field is missing
		d.after = hit.Sort
	}
	return out, nil
}

// stored is a document as a read of its own finds it, refreshed or not.
type stored struct {
	Found   bool            `json:"found"`
	ID      string          `json:"_id"`
	Version int64           `json:"_version"`
	Source  json.RawMessage `json:"_source"`
}

// key is the document's field id.
func (s stored) key() string {
	var source struct {
		ID any `json:"id"`
	}
	_ = json.Unmarshal(s.Source, &source) // what can't be read has no key
	key, _ := source.ID.(string)
	return key
}

// get reads documents by id. Without contents only the field id is read.
func (c *Checker) get(ctx context.Context, ids []string, contents bool) (map[string]stored, error) {
	path := "/" + c.alias + "/_mget"
	if !contents {
		path += "?_source_includes=id"
	}
	var answer struct {
		Docs []struct {
			stored
			Error *struct {
				Reason string `json:"reason"`
			} `json:"error"`
		} `json:"docs"`
	}
	if err := c.call(ctx, http.MethodPost, path, map[string]any{"ids": ids}, &answer); err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	out := make(map[string]stored, len(answer.Docs))
	for _, doc := range answer.Docs {
		if doc.Error != nil {
			return nil, fmt.Errorf("read documents: %s", doc.Error.Reason)
		}
		if doc.Found {
			out[doc.ID] = doc.stored
		}
	}
	return out, nil
}

func (c *Checker) call(ctx context.Context, method, path string, body, out any) error {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, path, payload)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.es.Perform(req)
	if err != nil {
		return fmt.Errorf("reach Elasticsearch: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= http.StatusBadRequest {
		reason, _ := io.ReadAll(io.LimitReader(res.Body, 500)) // the status alone would do
		return fmt.Errorf("elasticsearch answered %d: %s", res.StatusCode, bytes.TrimSpace(reason))
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("decode Elasticsearch's answer: %w", err)
	}
	return nil
}
