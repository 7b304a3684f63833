package api

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/portable"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// TestImportsGoByTheSpecification compares the rules for imported items, which the worker has too, with the specification's schema, on items made of
// parts that are right, wrong and on the border.
func TestImportsGoByTheSpecification(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromData(specYAML)
	require.NoError(t, err)
	schema := document.Components.Schemas["PortableItem"].Value
	texts := func(limit int) []string {
		return []string{
			"", "a", " ", "\t\r\n\f", "\v", "\u00a0", "\u2003", "a\x00b", "\x00", " a ", strings.Repeat("a", limit), strings.Repeat("a", limit+1), strings.Repeat("ä", limit),
			strings.Repeat("🙂", limit), strings.Repeat("🙂", limit+1), strings.Repeat(" ", limit+1), strings.Repeat("\x00", limit+1),
		}
	}
	titles, tags := texts(500), texts(100)
	sources := []string{
		"", "https://example.com", "HTTP://EXAMPLE.com/a", "ftp://example.com", "https://", "https://a b", "https://exa\x00mple.com", "http://[::1", "https://" + strings.Repeat("a", 2040),
		"https://" + strings.Repeat("a", 2041), strings.Repeat("x", 3000), "https://user@example.com", "https://example.com/%zz",
	}
	contents := []string{"", "x", "a\x00b", strings.Repeat("a", 1<<20), strings.Repeat("ä", 1<<19), strings.Repeat("ä", 1<<19+1), strings.Repeat("a", 1<<20+1)}
	fields := func(n int) map[string]any {
		m := make(map[string]any, n)
		for i := range n {
			m[fmt.Sprint(i)] = "x"
		}
		return m
	}
	metadatas := []map[string]any{
		nil,
		{},
		{"a": "b"},
		{"a\x00": "b"},
		{"a": []any{"x", map[string]any{"b/~c": "\x00"}}},
		fields(100), fields(101),
		{"big": strings.Repeat("x", 17<<10)},
		{"a": map[string]any{"b": map[string]any{"c": []any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{[]any{}}}}}}}}}}}},
	}
	now := time.Now()
	times := []time.Time{{}, now, now.Add(-time.Hour), now.Add(time.Hour)}
	random := rand.New(rand.NewPCG(1, 2))
	wrongs := 0
	for i := range 3000 {
		item := portable.Item{
			Title: choose(random, i, titles), Content: "x", Metadata: choose(random, i, metadatas), CreatedAt: choose(random, i, times), UpdatedAt: choose(random, i, times),
		}
		if i%50 == 0 {
			item.Content = choose(random, 0, contents)
		}
		if i%3 == 0 {
			source := choose(random, i, sources)
			item.SourceURL = &source
		}
		for range []int{0, 0, 1, 3, 50, 51}[random.IntN(6)] {
			item.Tags = append(item.Tags, choose(random, i, tags))
		}
		var want []gen.FieldError
		want = append(want, checkBody(schema, valueOf(item))...)
		formed := len(want) == 0
		_, got := transfer.Check(item, transfer.Latest(now))
		if formed { // the rest is not the schema's
			got = slices.DeleteFunc(got, func(w portable.FieldError) bool { return !strings.HasPrefix(w.Message, "must have at") })
		}
		got = slices.DeleteFunc(got, func(w portable.FieldError) bool { return strings.HasSuffix(w.Pointer, "_at") })
		require.ElementsMatch(t, plainErrors(want), got, "%.300q", fmt.Sprintf("%+v", item))
		wrongs += len(got)
	}
	require.Greater(t, wrongs, 1000)
}

// choose is mostly the first that is right, so that not everything is wrong at once.
func choose[T any](random *rand.Rand, i int, of []T) T {
	if i%2 == 1 && random.IntN(3) > 0 {
		return of[1]
	}
	return of[random.IntN(len(of))]
}

func valueOf(item portable.Item) map[string]any {
	value := map[string]any{"title": item.Title, "content": item.Content}
	if item.SourceURL != nil {
		value["source_url"] = *item.SourceURL
	}
	if item.Tags != nil {
		tags := make([]any, len(item.Tags))
		for i, tag := range item.Tags {
			tags[i] = tag
		}
		value["tags"] = tags
	}
	if item.Metadata != nil {
		value["metadata"] = item.Metadata
	}
	return value
}

func plainErrors(wrong []gen.FieldError) []portable.FieldError {
	out := make([]portable.FieldError, len(wrong))
	for i, w := range wrong {
		out[i] = portable.FieldError{Pointer: *w.Pointer, Message: w.Message}
	}
	return out
}
