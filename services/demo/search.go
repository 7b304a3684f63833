package demo

import (
	"context"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/client"
)

const (
	watchEvery   = 50
	pollInterval = 50 * time.Millisecond
	// indexTimeout is far more than indexing needs; longer means that something is broken and should be said.
	indexTimeout = 2 * time.Minute
)

// awaitItem polls until search has the item.
func (s *session) awaitItem(ctx context.Context, id uuid.UUID) error {
	return poll(ctx, "wait until search has item "+id.String(), func(ctx context.Context) (bool, error) {
		answer, err := s.api.GetItemWithResponse(ctx, id, nil)
		if err != nil {
			return false, fmt.Errorf("get item %s: %w", id, err)
		}
		if err := check("get item "+id.String(), answer.HTTPResponse, answer.Body); err != nil {
			return false, err
		}
		return answer.JSON200.SearchState == client.Indexed, nil
	})
}

// awaitSearch waits until a search over the demo's collections counts every document.
func (s *session) awaitSearch(ctx context.Context, o Options, want int, collections map[string]uuid.UUID, lags []time.Duration) error {
	start := time.Now()
	var got int64
	err := poll(ctx, fmt.Sprintf("wait until search counts all %d documents", want), func(ctx context.Context) (bool, error) {
		got = 0
		for _, id := range collections {
			page, err := s.find(ctx, "", &id, nil)
			if err != nil {
				return false, err
			}
			got += page.Total
		}
		return got >= int64(want), nil
	})
	if err != nil {
		return fmt.Errorf("search counts %d of %d documents: %w", got, want, err)
	}
	fmt.Fprintf(o.Out, "Indexing lagged %s (median), %s (worst) behind the write; search had everything %s after the last write\n",
		lags[len(lags)/2].Round(time.Millisecond), lags[len(lags)-1].Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	return nil
}

// search runs the searches that a curious user would, and prints what they find.
func (s *session) search(ctx context.Context, o Options, collections map[string]uuid.UUID) error {
	queries := []struct {
		text       string
		collection string
		tag        []string
	}{
		{text: "how to install"},
		{text: "graceful shutdown"},
		{text: "breaking changes", tag: []string{"changelog"}},
		{text: "kubernetes controller", collection: "Kubernetes"},
		{text: "metrics", tag: []string{"readme"}},
	}
	for _, q := range queries {
		var collection *uuid.UUID
		label := fmt.Sprintf("%q", q.text)
		if id, ok := collections[q.collection]; ok {
			collection = &id
			label += " in " + q.collection
		}
		if q.tag != nil {
			label += " tagged " + strings.Join(q.tag, ", ")
		}
		start := time.Now()
		page, err := s.find(ctx, q.text, collection, q.tag)
		if err != nil {
			return err
		}
		note := ""
		if page.Degraded {
			note = ", answered by PostgreSQL"
		}
		fmt.Fprintf(o.Out, "\nSearch %s: %d found in %s%s\n", label, page.Total, time.Since(start).Round(time.Millisecond), note)
		for _, hit := range page.Items[:min(3, len(page.Items))] {
			fmt.Fprintf(o.Out, "  %s  [%s]\n      %s\n", hit.Title, strings.Join(hit.Tags, ", "), plain(hit.Snippet))
		}
	}
	return nil
}

func (s *session) find(ctx context.Context, text string, collection *uuid.UUID, tags []string) (*client.SearchResult, error) {
	params := &client.SearchParams{Q: &text, CollectionID: collection}
	if tags != nil {
		params.Tag = &tags
	}
	answer, err := s.api.SearchWithResponse(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("search %q: %w", text, err)
	}
	if err := check(fmt.Sprintf("search %q", text), answer.HTTPResponse, answer.Body); err != nil {
		return nil, err
	}
	return answer.JSON200, nil
}

var markup = regexp.MustCompile(`</?mark>`)

// plain makes one short line of text from a snippet of safe HTML.
func plain(snippet string) string {
	text := strings.Join(strings.Fields(html.UnescapeString(markup.ReplaceAllString(snippet, ""))), " ")
	if cut := truncate(text, 140); cut != text {
		return cut + "…"
	}
	return text
}

func poll(ctx context.Context, doing string, ready func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, indexTimeout, fmt.Errorf("%s: not within %s", doing, indexTimeout))
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := ready(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func (s *session) writeCredentials(path, url string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of %s: %w", path, err)
	}
	content := fmt.Sprintf("ATLAS_URL='%s'\nATLAS_EMAIL='%s'\nATLAS_PASSWORD='%s'\n", url, s.email, s.password)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write the demo user's credentials: %w", err)
	}
	return nil
}
