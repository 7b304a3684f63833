package api_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
)

func TestAnItemOfACollectionThatAsksForIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve, eva := b.account("ada"), b.account("eve"), b.account("eva")
	c, other := b.collection(ada, "c"), b.collection(ada, "other")
	b.member(ada, c, eve, "editor")
	b.call(eve, "PATCH", "/v1/collections/"+c, map[string]any{"enrich": true}).is(403)
	require.Equal(t, false, b.call(ada, "GET", "/v1/collections/"+c, nil).is(200).body["enrich"])
	changed := b.call(ada, "PATCH", "/v1/collections/"+c, map[string]any{"enrich": true}).is(200)
	require.Equal(t, true, changed.body["enrich"])
	require.EqualValues(t, 2, changed.body["version"])

	create := func(collection, title string, source any) answer {
		body := map[string]any{"collection_id": collection, "title": title, "content": ""}
		if source != nil {
			body["source_url"] = source
		}
		return b.call(eve, "POST", "/v1/items", body)
	}
	wanted := func() (n int) {
		require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM item_extracts WHERE wanted_in = $1 AND due_at <= now() AND wanted_by = $2", c, eve.id).Scan(&n))
		return n
	}
	b.member(ada, other, eve, "editor")
	require.Contains(t, string(create(c, "  ", nil).is(422).raw), "must not be blank")
	require.Contains(t, string(create(c, "", nil).is(422).raw), "must not be blank")
	item := create(c, " ", "https://example.com/a").is(201)
	require.Empty(t, item.body["title"])
	require.Equal(t, 1, wanted())
	create(c, "with a title", "https://example.com/b").is(201)
	create(c, "no source", nil).is(201)
	create(other, "elsewhere", "https://example.com/c").is(201)
	require.Equal(t, 2, wanted())
	b.call(eve, "POST", "/v1/items/bulk", map[string]any{"operations": []map[string]any{
		{"op": "create", "item": map[string]any{"collection_id": c, "title": "", "content": "", "source_url": "https://example.com/d"}},
	}}).is(200)
	require.Equal(t, 3, wanted())
	path := "/v1/items/" + item.id()
	require.Equal(t, map[string]any{"pending": true}, b.call(eve, "GET", path, nil).is(200).body["extract"])
	b.call(eva, "GET", path+"/extract", nil).is(404)
	require.Equal(t, map[string]any{"item_id": item.id(), "pending": true, "text": ""}, b.call(eve, "GET", path+"/extract", nil).is(200).body)
	b.call(eve, "PATCH", path, map[string]any{"source_url": nil}).is(422) // nothing would be left to call it by
	b.call(eve, "PATCH", path, map[string]any{"title": ""}).is(422)

	seed := &indexingtest.Seed{Pool: b.pool}
	seed.Exec(t, `UPDATE item_extracts SET wanted_in = NULL, fetched_at = '2026-01-22T10:00:00Z', source_url = 'https://example.com/a', language = 'en', word_count = 2,
		excerpt = 'Two words.', text = 'Two words.', title = 'Page', site_name = 'Site', canonical_url = 'https://example.com/a' WHERE item_id = $1`, uuid.MustParse(item.id()))
	require.Equal(t, map[string]any{
		"pending": false, "fetched_at": "2026-01-22T10:00:00Z", "language": "en", "word_count": 2.0, "excerpt": "Two words.", "canonical_url": "https://example.com/a",
	}, b.call(eve, "GET", path, nil).is(200).body["extract"])
	require.Equal(t, map[string]any{
		"item_id": item.id(), "pending": false, "fetched_at": "2026-01-22T10:00:00Z", "language": "en", "word_count": 2.0, "excerpt": "Two words.",
		"canonical_url": "https://example.com/a", "title": "Page", "site_name": "Site", "text": "Two words.",
	}, b.call(eve, "GET", path+"/extract", nil).is(200).body)
	// Another source: what was known is of another page.
	moved := b.call(eve, "PATCH", path, map[string]any{"source_url": "https://example.com/other", "title": "Mine"}).is(200)
	require.Nil(t, moved.body["extract"])
	require.Equal(t, map[string]any{"pending": true}, b.call(eve, "GET", path, nil).is(200).body["extract"])
	b.call(eve, "PATCH", path, map[string]any{"source_url": nil}).is(200)
	b.call(eve, "GET", path+"/extract", nil).is(404)
	require.Nil(t, b.call(eve, "GET", path, nil).is(200).body["extract"])
	// A collection's editors may ask for pages as well.
	b.call(eve, "POST", "/v1/jobs", map[string]any{"type": "enrich", "parameters": map[string]any{"collection_id": c, "item_ids": []string{item.id()}, "refresh": true}}).is(202)
	b.call(eva, "POST", "/v1/jobs", map[string]any{"type": "enrich", "parameters": map[string]any{"collection_id": c}}).is(404)
}
