// Package search finds items by text. One Searcher interface has two adapters, Elasticsearch and PostgreSQL full text, which pass one
// conformance suite, and a combination that answers from PostgreSQL while Elasticsearch is away.
package search

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/search/query"
)

// Limits of a page.
const (
	DefaultLimit = 20
	MaxLimit     = 100
	// MaxTotal is where counting stops.
	MaxTotal = 10_000
	// MaxFacet is how many tags or collections a facet has at most.
	MaxFacet = 20
	// MaxNotItems is how many items an index can leave out; where there are more, the fallback answers, which needs no such help.
	MaxNotItems = 10_000
	// MaxMoment is how long the pages of one search are of one moment.
	MaxMoment = 10 * time.Minute
	// MaxCursor is the length of the longest cursor.
	MaxCursor = 5900
)

var (
	// ErrCursor means that the cursor does not belong to this query or this searcher: start again from the first page.
	ErrCursor = errors.New("the cursor is not valid for this search")
	// ErrUnavailable means that the search can't be answered now.
	ErrUnavailable = errors.New("search is not available")
	// ErrQuery means that the text can't be searched for as it is.
	ErrQuery = errors.New("the query can't be searched")
)

// Query is what to find; without a text that must be there the newest items are found.
type Query struct {
	// Match is what the caller typed. Its collections and authors are names that only the caller's rights can resolve: the fields below say
	// what they stand for, and a Searcher looks at nothing else for them.
	Match query.Query
	// CollectionIDs are the only collections that are searched; none means that nothing is found.
	CollectionIDs []uuid.UUID
	// NotItems are not found, whatever the index says: they are in none of the collections any more. At most MaxNotItems.
	NotItems []uuid.UUID
	// Authors created the items that are found; nil is anybody, empty is nobody. NotAuthors did not.
	Authors, NotAuthors []uuid.UUID
	// Sort is the order of the hits; empty is ByRelevance.
	Sort Sort
	// TagFacet and CollectionFacet ask for counts.
	TagFacet, CollectionFacet bool
	// Limit is the size of the page; 0 means DefaultLimit, more than MaxLimit means MaxLimit.
	Limit int
	// Cursor is the NextCursor of the page before. It is not signed: whoever hands it out must do that.
	Cursor string
	// Correct asks for Corrections of words that are nowhere.
	Correct bool
	// AfterFresh makes the search see at least what Fresh saw: the same copy of the index answers.
	AfterFresh bool
	// foreign is set by a Searcher whose index is not of English words.
	foreign bool
}

// Sort is an order of hits.
type Sort string

// The orders. Hits that are equal otherwise come newest first.
const (
	// ByRelevance is the best first. Without a text that must be there it is Newest.
	ByRelevance Sort = "relevance"
	Newest      Sort = "newest"
	Oldest      Sort = "oldest"
	// LastUpdated is what was updated last first.
	LastUpdated Sort = "updated"
)

// Page is a part of the answer.
type Page struct {
	Hits []Hit
	// Total is the number of matches on all pages, counted up to MaxTotal.
	Total int64
	// Tags and Collections count the matches on all pages by tag and by collection, the most frequent ones first. They are nil unless asked for.
	Tags        []TagCount
	Collections []CollectionCount
	// NextCursor is empty on the last page.
	NextCursor string
	// Corrections are other words for words of the query with which it finds something, when it finds nothing as it is. They depend on nothing but
	// items that the query's filters leave. An engine that can't tell has none.
	Corrections map[string]string
	// Degraded is true when the answer came from the fallback.
	Degraded bool
}

// Hit is an item that was found.
type Hit struct {
	ItemID       uuid.UUID
	CollectionID uuid.UUID
	Title        string
	// Snippet is HTML: everything of the item is escaped, the only tag is <mark> around matches.
	Snippet string
	// ExtractSnippet is such HTML of what was found on the page at the item's source; empty when nothing was.
	ExtractSnippet string
	Tags           []string
	Score          float64
	UpdatedAt      time.Time
	Version        int64
}

// TagCount is how many matches have a tag.
type TagCount struct {
	Tag   string
	Items int64
}

// CollectionCount is how many matches are in a collection.
type CollectionCount struct {
	CollectionID uuid.UUID
	Items        int64
}

// Searcher answers queries.
type Searcher interface {
	// Search finds a page of items.
	Search(ctx context.Context, q Query) (Page, error)
	// Suggest completes what is being typed.
	Suggest(ctx context.Context, p Prefix) (Suggestions, error)
	// Fresh tells of each write whether it, or a later one of the item, can be found.
	Fresh(ctx context.Context, writes []Write) (Freshness, error)
}

// Prefix is the beginning of a title.
type Prefix struct {
	// Text has whole words, and the beginning of a word at its end.
	Text string
	// CollectionIDs are the only collections that are looked in.
	CollectionIDs []uuid.UUID
	// NotItems are not suggested, whatever the index says. At most MaxNotItems.
	NotItems []uuid.UUID
	// Limit is how many items are suggested at most.
	Limit int
}

// normal returns the prefix with its limit in bounds; ok is false when it can complete to nothing.
func (p Prefix) normal() (_ Prefix, ok bool) {
	p.Text = strings.TrimSpace(p.Text)
	switch {
	case p.Limit <= 0:
		p.Limit = DefaultLimit
	case p.Limit > MaxLimit:
		p.Limit = MaxLimit
	}
	return p, len(p.CollectionIDs) > 0 && len(p.words()) > 0
}

// words are the words of the text, each with a letter or a digit.
func (p Prefix) words() []string {
	return slices.DeleteFunc(query.Words(p.Text), func(word string) bool {
		return !strings.ContainsFunc(word, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) })
	})
}

// Suggestions are items whose title has the words: first those whose title begins with the text, and of equal ones the newest.
type Suggestions struct {
	Items []Suggestion
	// Degraded is true when the answer came from the fallback.
	Degraded bool
}

// Suggestion is an item whose title has the words.
type Suggestion struct {
	ItemID       uuid.UUID
	CollectionID uuid.UUID
	Title        string
}

// Write is a change of an item that somebody waits for, and what the database says about the item.
type Write struct {
	ItemID uuid.UUID
	// Version is what the write made, or will make.
	Version int64
	// Committed is the item's version now, and Indexed the one that the index was given.
	Committed, Indexed int64
	// Deleted tells that the item is deleted at the version Committed.
	Deleted bool
}

// Freshness answers for writes, in their order.
type Freshness struct {
	Found []bool
	// Degraded is true when the answer is the fallback's: it says nothing about the primary.
	Degraded bool
}

func (q Query) normal() Query {
	switch {
	case q.Limit <= 0:
		q.Limit = DefaultLimit
	case q.Limit > MaxLimit:
		q.Limit = MaxLimit
	}
	if q.Sort == "" || q.Sort == ByRelevance {
		q.Sort = Newest
		if slices.ContainsFunc(q.Match.Needles(), func(n query.Needle) bool { return !n.Not }) {
			q.Sort = ByRelevance
		}
	}
	return q
}

// nobody reports whether the query asks for nothing that can exist for this caller.
func (q Query) nobody() bool {
	return len(q.CollectionIDs) == 0 || (q.Authors != nil && len(q.Authors) == 0)
}

// empty is the page of a query that finds nothing.
func (q Query) empty() Page {
	page := Page{Hits: []Hit{}}
	if q.TagFacet {
		page.Tags = []TagCount{}
	}
	if q.CollectionFacet {
		page.Collections = []CollectionCount{}
	}
	return page
}

// position is where a page ended. Sort tells pages ordered by (Score, ID), ID, or (Updated, ID) apart.
type position struct {
	Engine string  `json:"e"`
	Sort   Sort    `json:"o"`
	Score  float64 `json:"s,omitempty"`
	// Updated is in milliseconds since 1970: what every engine keeps.
	Updated int64     `json:"u,omitempty"`
	ID      uuid.UUID `json:"i"`
	// PIT is the point in time of the index that the pages are of; empty when they are of the index as it is. Opened is when it was opened, in
	// seconds since 1970.
	PIT    string `json:"p,omitempty"`
	Opened int64  `json:"t,omitempty"`
}

// positionOf is where a page ends whose last hit this is.
func (q Query) positionOf(engine string, last Hit) position {
	p := position{Engine: engine, Sort: q.Sort, ID: last.ItemID}
	switch q.Sort {
	case ByRelevance:
		p.Score = last.Score
	case LastUpdated:
		p.Updated = last.UpdatedAt.UnixMilli()
	}
	return p
}

func (p position) encode() (string, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

func decodePosition(cursor string) (position, error) {
	var p position
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return p, ErrCursor
	}
	if err := json.Unmarshal(b, &p); err != nil || p.ID == uuid.Nil {
		return p, ErrCursor
	}
	return p, nil
}

// resume returns the position to start after; ok is false for the first page.
func (q Query) resume(engine string) (p position, ok bool, err error) {
	if q.Cursor == "" {
		return position{}, false, nil
	}
	p, err = decodePosition(q.Cursor)
	if err != nil {
		return p, false, err
	}
	if p.Engine != engine || p.Sort != q.Sort {
		return p, false, ErrCursor
	}
	return p, true, nil
}

// The marks around a match in text that is not escaped yet.
const (
	markStart = "\x02"
	markEnd   = "\x03"
)

// safeSnippet escapes a text and turns the marks in it into <mark> tags that are always closed.
func safeSnippet(text string) string {
	var b strings.Builder
	open := false
	for text != "" {
		i := strings.IndexAny(text, markStart+markEnd)
		if i < 0 {
			i = len(text)
		}
		b.WriteString(html.EscapeString(text[:i]))
		if i == len(text) {
			break
		}
		if start := text[i:i+1] == markStart; start != open {
			open = start
			if start {
				b.WriteString("<mark>")
			} else {
				b.WriteString("</mark>")
			}
		}
		text = text[i+1:]
	}
	if open {
		b.WriteString("</mark>")
	}
	return b.String()
}
