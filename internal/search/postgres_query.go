package search

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/search/query"
)

// pgFilters are a query's parts that need no full text, in the form that every statement takes.
type pgFilters struct {
	tags, notTags       []string
	authors, notAuthors []uuid.UUID
	after, before       *time.Time
}

func newPGFilters(q Query) pgFilters {
	return pgFilters{
		tags: notNull(q.Match.Tags), notTags: notNull(q.Match.NotTags), authors: notNull(q.Authors), notAuthors: notNull(q.NotAuthors),
		after: bound(q.Match.After), before: bound(q.Match.Before),
	}
}

// notNull keeps an empty list from becoming NULL, with which no comparison is true.
func notNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func bound(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// tsquery is the text of the tsquery for the words and phrases; empty when there are none. ok is false when PostgreSQL has no lexeme for a term
// that must be there: then nothing can be found.
func tsquery(ctx context.Context, queries *db.Queries, q Query) (text string, ok bool, err error) {
	needles := q.Match.Needles()
	if len(needles) == 0 {
		return "", true, nil
	}
	// PostgreSQL keeps some texts whole, such as a file's path, when they stand alone: they are looked for as typed and as the words in them.
	phrases := make([]string, 0, 2*len(needles))
	for _, n := range needles {
		phrases = append(phrases, n.Typed, strings.Join(n.Words, " "))
	}
	parsed, err := queries.ParseSearchPhrases(ctx, phrases)
	if err != nil {
		return "", false, err
	}
	var parts []string
	for i, n := range needles {
		part := alternatives(n, parsed[2*i], parsed[2*i+1])
		switch {
		case part == "" && !n.Not:
			return "", false, nil
		case part == "":
		case n.Not:
			parts = append(parts, "!("+part+")")
		default:
			parts = append(parts, "("+part+")")
		}
	}
	return strings.Join(parts, " & "), true, nil
}

func alternatives(n query.Needle, parsed ...string) string {
	var parts []string
	for i, text := range parsed {
		switch {
		case text == "" || (i > 0 && text == parsed[0]):
		case len(n.Words) == 1 && !strings.Contains(text, "<"):
			parts = append(parts, text)
		default:
			// A phrase is in the title, in the content or on the source's page: it does not go from the end of one to the start of the next.
			parts = append(parts, "("+weighted(text, 'A')+")", "("+weighted(text, 'B')+")", "("+weighted(text, 'C')+")")
		}
	}
	return strings.Join(parts, " | ")
}

// weighted adds a weight to each lexeme of a tsquery's text, in which lexemes are quoted.
func weighted(text string, weight byte) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		b.WriteByte(c)
		doubled := i+1 < len(text) && text[i+1] == c
		switch {
		case inside && (c == '\'' || c == '\\') && doubled:
			i++
			b.WriteByte(c)
		case c == '\'' && inside:
			inside = false
			b.WriteByte(':')
			b.WriteByte(weight)
		case c == '\'':
			inside = true
		}
	}
	return b.String()
}
