package api_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// suggest returns the titles and the tags that complete a text.
func (b *testBundle) suggest(user *account, q, more string) (titles, tags []string) {
	b.t.Helper()
	a := b.call(user, "GET", "/v1/search/suggest?q="+url.QueryEscape(q)+more, nil).is(200)
	titles, tags = []string{}, []string{}
	for _, item := range a.items() {
		titles = append(titles, item["title"].(string))
	}
	for _, tag := range a.body["tags"].([]any) {
		tags = append(tags, tag.(string))
	}
	return titles, tags
}

// TestWhatIsGoneTakesNoPlaceAmongSuggestions deletes and moves far more than are suggested, while the index has them all, before what is left.
func TestWhatIsGoneTakesNoPlaceAmongSuggestions(t *testing.T) {
	t.Parallel()
	x := setupIndexed(t)
	ada, eve := x.account("ada"), x.account("eve")
	shared, hidden := x.collection(eve, "shared"), x.collection(eve, "hidden")
	x.member(eve, shared, ada, "viewer")
	items := []string{x.item(eve, shared, "needle that stays")}
	for range 40 {
		items = append(items, x.item(eve, shared, "needle"))
	}
	x.sync(items...)
	x.refresh()
	for i, item := range items[1:] {
		if i%2 == 0 {
			x.call(eve, "PATCH", "/v1/items/"+item, object{"collection_id": hidden}).is(200)
		} else {
			x.call(eve, "DELETE", "/v1/items/"+item, nil).is(204)
		}
	}
	for _, limit := range []string{"", "&limit=1", "&limit=20"} {
		titles, _ := x.suggest(ada, "need", limit)
		require.Equal(t, []string{"needle that stays"}, titles, limit)
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, eve := b.account("ada"), b.account("eve")
	notes, hers := b.collection(ada, "notes"), b.collection(eve, "hers")
	b.item(ada, notes, "Kafka consumers", "kafka", "Kafkaesque")
	last := b.item(ada, notes, "More of Kafka", "kafka", "kafka: gone", "100%")
	b.item(eve, hers, "Kafka secrets", "kafka secrets")

	titles, tags := b.suggest(ada, "kaf", "")
	require.Equal(t, []string{"Kafka consumers", "More of Kafka"}, titles)
	require.Equal(t, []string{"kafka", "Kafkaesque", "kafka: gone"}, tags)
	titles, tags = b.suggest(ada, " KAFKA ", "&collection_id="+notes)
	require.Equal(t, []string{"Kafka consumers", "More of Kafka"}, titles)
	require.Len(t, tags, 3)
	titles, tags = b.suggest(ada, "kaf", "&limit=1")
	require.Equal(t, []string{"Kafka consumers"}, titles)
	require.Equal(t, []string{"kafka"}, tags)
	_, tags = b.suggest(ada, "100%", "")
	require.Equal(t, []string{"100%"}, tags)
	for _, q := range []string{"secrets", "%", "_", " ", `\`, "kafka s"} {
		titles, tags = b.suggest(ada, q, "")
		require.Empty(t, titles, q)
		require.Empty(t, tags, q)
	}
	titles, tags = b.suggest(b.account("new"), "kaf", "")
	require.Empty(t, titles)
	require.Empty(t, tags)

	b.call(ada, "DELETE", "/v1/items/"+last, nil).is(204)
	titles, tags = b.suggest(ada, "kaf", "")
	require.Equal(t, []string{"Kafka consumers"}, titles)
	require.Equal(t, []string{"Kafkaesque", "kafka"}, tags, "a tag of deleted items only is none")

	b.call(ada, "GET", "/v1/search/suggest?q=k&collection_id="+hers, nil).problem(404, "not-found")
	b.call(ada, "GET", "/v1/search/suggest", nil).problem(400, "invalid-request", "q")
	b.call(ada, "GET", "/v1/search/suggest?q=", nil).problem(400, "invalid-request", "q")
	b.call(ada, "GET", "/v1/search/suggest?q=k&limit=21", nil).problem(400, "invalid-request", "limit")
	b.call(ada, "GET", "/v1/search/suggest?q=%00", nil).problem(400, "invalid-request", "q")
	b.call(nil, "GET", "/v1/search/suggest?q=k", nil).is(401)

	b.member(eve, hers, ada, "viewer")
	titles, tags = b.suggest(ada, "kafka s", "")
	require.Equal(t, []string{"Kafka secrets"}, titles)
	require.Equal(t, []string{"kafka secrets"}, tags)
	b.call(eve, "DELETE", "/v1/collections/"+hers+"/members/"+ada.id, nil).is(204)
	titles, tags = b.suggest(ada, "kafka s", "")
	require.Empty(t, titles, "from the very next request")
	require.Empty(t, tags)
}

func TestSuggestCountsTagsOverCollections(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada := b.account("ada")
	one, two := b.collection(ada, "one"), b.collection(ada, "two")
	b.item(ada, one, "a", "go", "gold")
	b.item(ada, two, "b", "gold", "golem")
	b.item(ada, two, "c", "golem")
	b.item(ada, two, "d", "golem")
	_, tags := b.suggest(ada, "go", "")
	require.Equal(t, []string{"golem", "gold", "go"}, tags)
}
