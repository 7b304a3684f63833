package search

import (
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/atlas-platform/atlas/internal/search/query"
)

// esQuery is the bool query for everything but the order.
func esQuery(q Query) object {
	filters := []any{object{"terms": object{"collection_id": q.CollectionIDs}}}
	for _, tag := range q.Match.Tags {
		filters = append(filters, object{"term": object{"tags": tag}})
	}
	if len(q.Authors) > 0 {
		filters = append(filters, object{"terms": object{"created_by": q.Authors}})
	}
	created := object{}
	if t := q.Match.After; !t.IsZero() {
		created["gte"] = t.Format(time.RFC3339Nano)
	}
	if t := q.Match.Before; !t.IsZero() {
		created["lt"] = t.Format(time.RFC3339Nano)
	}
	if len(created) > 0 {
		filters = append(filters, object{"range": object{"created_at": created}})
	}
	var must, mustNot []any
	for _, n := range q.Match.Needles() {
		if n.Not {
			mustNot = append(mustNot, esNeedle(n, q.foreign))
		} else {
			must = append(must, esNeedle(n, q.foreign))
		}
	}
	if len(q.Match.NotTags) > 0 {
		mustNot = append(mustNot, object{"terms": object{"tags": q.Match.NotTags}})
	}
	if len(q.NotAuthors) > 0 {
		mustNot = append(mustNot, object{"terms": object{"created_by": q.NotAuthors}})
	}
	if len(q.NotItems) > 0 {
		mustNot = append(mustNot, object{"terms": object{"id": q.NotItems}})
	}
	out := object{"filter": filters}
	if len(must) > 0 {
		out["must"] = must
	}
	if len(mustNot) > 0 {
		out["must_not"] = mustNot
	}
	return object{"bool": out}
}

// esSort is the order, and the values in it of the hit that a page ended with. IDs are UUIDv7, which are ordered by creation time.
func esSort(q Query, after position) (order, values []any) {
	switch q.Sort {
	case ByRelevance:
		return []any{object{"_score": "desc"}, object{"id": "desc"}}, []any{after.Score, after.ID}
	case Oldest:
		return []any{object{"id": "asc"}}, []any{after.ID}
	case LastUpdated:
		return []any{object{"updated_at": "desc"}, object{"id": "desc"}}, []any{after.Updated, after.ID}
	default:
		return []any{object{"id": "desc"}}, []any{after.ID}
	}
}

// esNeedle looks for a word or phrase in title, content or the source's page. The stemmed fields find, the exact ones lift what matches to the letter: the best field
// counts, and without a larger weight an exact one, which has no word more often, would never be it. In an index of a foreign language the stop words in a
// phrase, which are English, count like any other word.
func esNeedle(n query.Needle, foreign bool) object {
	match := object{"type": "phrase", "query": n.Text, "fields": []string{"title^3", "title.exact^4.5", "content", "content.exact^1.5", "extract^0.5", "extract.exact^0.75"}, "zero_terms_query": "all"}
	if n.Not {
		match["zero_terms_query"] = "none"
	}
	switch {
	case n.HasGaps() && !foreign:
		// The index has the stop words, PostgreSQL's has not. The built-in analyzer leaves a gap for each of its own few stop words, and is
		// otherwise the fields' own but for the folding of accents.
		words := make([]string, len(n.Words))
		for i, word := range n.Words {
			if words[i] = fold(word); n.Gaps[i] {
				words[i] = "the"
			}
		}
		match["query"], match["analyzer"], match["fields"] = strings.Join(words, " "), "english", []string{"title^3", "content", "extract^0.5"}
	case len(n.Words) == 1:
		match["query"] = n.Words[0]
	}
	return object{"multi_match": match}
}

// fold takes the accents off letters, as the index does.
func fold(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFD.String(text))
}
