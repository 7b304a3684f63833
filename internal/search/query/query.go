// Package query is the language of the search box: words, "phrases", exclusions and filters such as tag:go. It reads what people type into a
// Query, which every search engine then answers with the same meaning.
package query

import (
	"strings"
	"time"
)

// Bounds of a query.
const (
	// MaxLength is the length in characters.
	MaxLength = 1000
	// MaxParts is the number of words, phrases and filters together.
	MaxParts = 64
)

// Query is what was asked for. An item has to satisfy every part; the zero value asks for everything.
type Query struct {
	// Terms are looked for in title and content. Each must be there, or must not.
	Terms []Term
	// Tags must all be on the item; none of NotTags may.
	Tags, NotTags []string
	// Collections are IDs or names: the item is in one of them, and in none of NotCollections. Who searches must resolve them, by the rights
	// of the caller.
	Collections, NotCollections []string
	// Authors are IDs, e-mails or "me": one of them created the item, and none of NotAuthors. Who searches must resolve them too.
	Authors, NotAuthors []string
	// The item was created not before After and before Before; zero is no bound. Both are in UTC and whole milliseconds, which is what every
	// engine can compare.
	After, Before time.Time
}

// Term is a word or a phrase.
type Term struct {
	Text   string
	Phrase bool
	Not    bool
}

// String returns the query as one would type it. Parsing it gives the same query.
func (q Query) String() string {
	var parts []string
	for _, t := range q.Terms {
		text := t.Text
		if t.Phrase {
			text = quoted(text)
		}
		parts = append(parts, sign(t.Not)+text)
	}
	for _, f := range filters {
		for _, not := range []bool{false, true} {
			if f.names == nil {
				continue
			}
			for _, value := range *f.names(&q, not) {
				parts = append(parts, sign(not)+f.key+":"+quoted(value))
			}
		}
		if f.bound != nil {
			if t := *f.bound(&q); !t.IsZero() {
				parts = append(parts, f.key+":"+t.Format(time.RFC3339Nano))
			}
		}
	}
	return strings.Join(parts, " ")
}

func sign(not bool) string {
	if not {
		return "-"
	}
	return ""
}

func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// filter is a word before a colon that has a meaning. Either names or bound is set.
type filter struct {
	key     string
	example string
	names   func(q *Query, not bool) *[]string
	bound   func(q *Query) *time.Time
	// tighter tells whether a bound leaves less than the one before.
	tighter func(t, than time.Time) bool
}

var filters = []filter{
	{key: "tag", example: "tag:recipe", names: func(q *Query, not bool) *[]string {
		return choose(not, &q.Tags, &q.NotTags)
	}},
	{key: "collection", example: `collection:"Reading list"`, names: func(q *Query, not bool) *[]string {
		return choose(not, &q.Collections, &q.NotCollections)
	}},
	{key: "author", example: "author:me", names: func(q *Query, not bool) *[]string {
		return choose(not, &q.Authors, &q.NotAuthors)
	}},
	{key: "after", example: "after:2026-01-31", bound: func(q *Query) *time.Time { return &q.After }, tighter: time.Time.After},
	{key: "before", example: "before:2026-01-31", bound: func(q *Query) *time.Time { return &q.Before }, tighter: time.Time.Before},
}

func choose(not bool, with, without *[]string) *[]string {
	if not {
		return without
	}
	return with
}
