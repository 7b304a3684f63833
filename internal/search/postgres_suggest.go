package search

import (
	"context"
	"slices"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/search/query"
)

// How many titles are looked at: of those that have the words, and of those of each collection that begin with the text.
const (
	suggestScan       = 500
	suggestOfEach     = 50
	longestStemEnding = 7
)

// Fresh implements Searcher: what is committed can be found.
func (s *Postgres) Fresh(_ context.Context, writes []Write) (Freshness, error) {
	out := Freshness{Found: make([]bool, len(writes))}
	for i, w := range writes {
		out.Found[i] = w.Committed >= w.Version
	}
	return out, nil
}

// Suggest implements Searcher.
func (s *Postgres) Suggest(ctx context.Context, p Prefix) (Suggestions, error) {
	out := Suggestions{Items: []Suggestion{}}
	p, ok := p.normal()
	if !ok {
		return out, nil
	}
	queries, words := db.New(s.pool), p.words()
	runs := make([]string, len(words))
	for i, word := range words {
		runs[i] = firstRun(word)
	}
	stems, err := queries.StemWords(ctx, runs)
	if err != nil {
		return out, searchError(err)
	}
	rows, err := queries.SuggestItems(ctx, db.SuggestItemsParams{
		CollectionIds: p.CollectionIDs, Prefix: p.Text, Query: prefixQuery(runs, stems), OfEach: suggestOfEach, AtMost: suggestScan,
	})
	if err != nil {
		return out, searchError(err)
	}
	seen := make(map[uuid.UUID]bool, len(rows))
	for _, row := range rows {
		if seen[row.ID] || len(out.Items) == p.Limit || !titleHas(row.Title, words) {
			continue
		}
		seen[row.ID] = true
		out.Items = append(out.Items, Suggestion{ItemID: row.ID, CollectionID: row.CollectionID, Title: row.Title})
	}
	return out, nil
}

// firstRun is the first letters and digits of a word, which is what PostgreSQL's parser, too, takes for one word or the beginning of one.
func firstRun(word string) string {
	other := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) }
	word = strings.TrimLeftFunc(word, other)
	if end := strings.IndexFunc(word, other); end >= 0 {
		word = word[:end]
	}
	return strings.ToLower(word)
}

// prefixQuery is a tsquery that finds every title with the words, and more: the last one is a beginning, and the vector has stems, which are
// shorter than what was typed or end in another letter.
func prefixQuery(runs, stems []string) string {
	lexeme := func(text, options string) string {
		return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(text) + "':" + options
	}
	last := len(runs) - 1
	var parts []string
	for i, stem := range stems {
		if i < last && stem != "" {
			parts = append(parts, lexeme(stem, "A"))
		}
	}
	if len(parts) > 0 && query.BeginsStopWord(runs[last]) {
		return strings.Join(parts, " & ") // the vector has no stop words
	}
	alternatives := []string{lexeme(runs[last], "*A")}
	if stems[last] != "" {
		alternatives = append(alternatives, lexeme(stems[last], "*A"))
	}
	letters := []rune(runs[last])
	for n := max(2, len(letters)-longestStemEnding); n < len(letters); n++ {
		alternatives = append(alternatives, lexeme(string(letters[:n]), "A"))
	}
	return strings.Join(append(parts, "("+strings.Join(alternatives, " | ")+")"), " & ")
}

// titleHas reports whether the title has the words, the last one as a beginning, in any case and with any accents.
func titleHas(title string, words []string) bool {
	plain := func(word string) string { return strings.ToLower(fold(word)) }
	in := query.Words(title)
	for i, word := range in {
		in[i] = plain(word)
	}
	for i, word := range words {
		wanted := plain(word)
		if !slices.ContainsFunc(in, func(have string) bool {
			return have == wanted || (i == len(words)-1 && strings.HasPrefix(have, wanted))
		}) {
			return false
		}
	}
	return true
}
