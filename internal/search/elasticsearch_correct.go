package search

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/atlas-platform/atlas/internal/search/query"
)

const (
	// maxMissing is how many words may be corrected in one query, and correctionHits in how many items each is looked for.
	maxMissing     = 3
	correctionHits = 20
	// correctionLength is how much of a content is looked through for a similar word.
	correctionLength = 50_000
	// Shorter words are similar to too many, and longer ones are not words.
	minCorrected, maxCorrected = 3, 60
	// The marks around a similar word are no letters, and no spaces or controls: these are cut off the ends of a fragment.
	wordStart, wordEnd = "\ue000", "\ue001"
)

// corrections finds words to search for instead of those that no item has. The candidates are read from items that the query's filters leave.
// Elasticsearch's suggesters draw theirs from the dictionary of the whole index: even where they check that one is in the caller's collections,
// words of others decide which ones are considered and how they rank. A failure, or the end of ctx, only means that there are none.
func (s *Elasticsearch) corrections(ctx context.Context, q Query) map[string]string {
	present, missing, err := s.sort(ctx, q)
	if err != nil || len(missing) == 0 || len(missing) > maxMissing {
		return nil
	}
	corrected := make(map[string]string, len(missing))
	for _, word := range missing {
		other, err := s.similar(ctx, q, present, word)
		if err != nil || other == "" {
			return nil
		}
		corrected[word], present = other, append(present, other)
	}
	q.Match = q.Match.Correct(corrected)
	if found, err := s.count(ctx, q, nil); err != nil || found.Hits.Total.Value == 0 {
		return nil // together, or as a phrase, they find nothing either
	}
	return corrected
}

// sort tells the words that items have from those that none has.
func (s *Elasticsearch) sort(ctx context.Context, q Query) (present, missing []string, err error) {
	words := wordsOf(q.Match)
	counts := make(object, len(words))
	for i, word := range words {
		counts[fmt.Sprint(i)] = esNeedle(wordNeedle(word), false)
	}
	if len(words) == 0 {
		return nil, nil, nil
	}
	answer, err := s.count(ctx, q.withWords(nil), object{"words": object{"filters": object{"filters": counts}}})
	if err != nil || answer.Hits.Total.Value == 0 {
		return nil, nil, err
	}
	for i, word := range words {
		switch {
		case answer.Aggregations.Words.Buckets[fmt.Sprint(i)].Count > 0:
			present = append(present, word)
		case utf8.RuneCountInString(word) >= minCorrected && utf8.RuneCountInString(word) <= maxCorrected:
			missing = append(missing, word)
		default:
			return nil, nil, nil
		}
	}
	return present, missing, nil
}

// wordsOf are the words that must be there.
func wordsOf(q query.Query) []string {
	var words []string
	for _, n := range q.Needles() {
		for i, word := range n.Words {
			if !n.Not && !n.Gaps[i] && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

func wordNeedle(word string) query.Needle {
	return query.Needle{Typed: word, Text: word, Words: []string{word}, Gaps: []bool{false}}
}

// withWords is the query with these words in place of what must be there.
func (q Query) withWords(words []string) Query {
	q.Match.Terms = slices.DeleteFunc(slices.Clone(q.Match.Terms), func(t query.Term) bool { return !t.Not })
	for _, word := range words {
		q.Match.Terms = append(q.Match.Terms, query.Term{Text: word})
	}
	return q
}

type countAnswer struct {
	searchAnswer
	Aggregations struct {
		Words struct {
			Buckets map[string]struct {
				Count int64 `json:"doc_count"`
			} `json:"buckets"`
		} `json:"words"`
	} `json:"aggregations"`
}

func (s *Elasticsearch) count(ctx context.Context, q Query, aggs object) (countAnswer, error) {
	body := object{"query": esQuery(q), "size": 0, "track_total_hits": 1}
	if aggs != nil {
		body["aggs"] = aggs
	}
	var answer countAnswer
	if err := s.call(ctx, http.MethodPost, "/"+s.alias+"/_search", body, &answer); err != nil {
		return answer, err
	}
	return answer, answer.partial()
}

// similar finds the word that is nearest to a missing one in items with the present ones; empty when there is none. Constant scores and a rewrite
// that takes every similar word make the answer depend on these items alone.
func (s *Elasticsearch) similar(ctx context.Context, q Query, present []string, word string) (string, error) {
	fuzzy := func(edits any) object {
		return object{"multi_match": object{
			"query": word, "fields": []string{"title.exact", "content.exact", "extract.exact"}, "fuzziness": edits, "prefix_length": 1, "fuzzy_rewrite": "constant_score",
		}}
	}
	nearest := object{"dis_max": object{"queries": []any{
		object{"constant_score": object{"filter": fuzzy(1), "boost": 2}},
		object{"constant_score": object{"filter": fuzzy("AUTO:3,5"), "boost": 1}},
	}}}
	var answer struct {
		searchAnswer
		Hits struct {
			Hits []struct {
				Highlight map[string][]string `json:"highlight"`
			} `json:"hits"`
		} `json:"hits"`
	}
	err := s.call(ctx, http.MethodPost, "/"+s.alias+"/_search", object{
		"query": object{"bool": object{"filter": esQuery(q.withWords(present)), "must": nearest}},
		"sort":  []any{object{"_score": "desc"}, object{"id": "desc"}}, "size": correctionHits, "track_total_hits": false, "_source": false,
		"highlight": object{
			"pre_tags": []string{wordStart}, "post_tags": []string{wordEnd}, "highlight_query": nearest, "max_analyzed_offset": correctionLength,
			"fields": object{
				"title.exact":   object{"number_of_fragments": 0},
				"content.exact": object{"number_of_fragments": 5, "fragment_size": 20, "boundary_scanner": "word"},
				"extract.exact": object{"number_of_fragments": 5, "fragment_size": 20, "boundary_scanner": "word"},
			},
		},
	}, &answer)
	if err == nil {
		err = answer.partial()
	}
	if err != nil {
		return "", err
	}
	frequency := make(map[string]int)
	for _, hit := range answer.Hits.Hits {
		for _, texts := range hit.Highlight {
			for _, text := range texts {
				for _, marked := range markedWords(text) {
					frequency[marked]++
				}
			}
		}
	}
	return nearestOf(word, frequency), nil
}

// markedWords are the words between the marks, in lower case.
func markedWords(text string) []string {
	var words []string
	for _, rest := range strings.Split(text, wordStart)[1:] {
		marked, _, closed := strings.Cut(rest, wordEnd)
		if inside := query.Words(marked); closed && len(inside) == 1 && inside[0] == marked {
			words = append(words, strings.ToLower(marked))
		}
	}
	return words
}

// nearestOf is the word with the fewest edits; of these the most frequent one, of these the first in the alphabet.
func nearestOf(word string, frequency map[string]int) string {
	plain := func(text string) []rune { return []rune(strings.Map(unicode.ToLower, fold(text))) }
	best, bestEdits := "", 0
	for candidate, n := range frequency {
		if utf8.RuneCountInString(candidate) > maxCorrected {
			continue
		}
		edits := distance(plain(word), plain(candidate))
		better := cmp.Or(cmp.Compare(bestEdits, edits), cmp.Compare(n, frequency[best]), cmp.Compare(best, candidate))
		if best == "" || better > 0 {
			best, bestEdits = candidate, edits
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with the next one (optimal string alignment).
func distance(a, b []rune) int {
	var before []int
	above, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range a {
		row[0] = i + 1
		for j := range b {
			replaced := above[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(above[j+1]+1, row[j]+1, replaced)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above, row = above, row, make([]int, len(b)+1)
	}
	return above[len(b)]
}
