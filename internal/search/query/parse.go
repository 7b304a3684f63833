package query

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Error says what can't be meant, where, and what to write instead.
type Error struct {
	// Position is the character, counted from 1, where the part starts that can't be meant.
	Position int
	// Message says what is wrong with it and the way out.
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("can't be understood from character %d on: %s", e.Position, e.Message)
}

// Parse reads a query. Its error is always an *Error. What has no meaning of its own is text: an unknown filter, a quote that is never closed
// (the phrase goes to the end), a lone minus.
func Parse(text string) (Query, error) {
	p := parser{text: []rune(text)}
	if err := p.parse(); err != nil {
		return Query{}, err
	}
	return p.query, nil
}

func (p *parser) parse() error {
	if len(p.text) > MaxLength {
		return &Error{Position: MaxLength + 1, Message: fmt.Sprintf("a query may have at most %d characters", MaxLength)}
	}
	for parts := 0; ; {
		p.skipSpace()
		if p.at == len(p.text) {
			return nil
		}
		start := p.at
		added, err := p.part()
		if err != nil {
			return err
		}
		if added {
			parts++
		}
		if parts > MaxParts {
			return &Error{Position: start + 1, Message: fmt.Sprintf("a query may have at most %d words, phrases and filters", MaxParts)}
		}
	}
}

type parser struct {
	text  []rune
	at    int
	query Query
	// spans are where the terms of query stand in text.
	spans []span
}

type span struct{ start, end int }

func (p *parser) skipSpace() {
	for p.at < len(p.text) && unicode.IsSpace(p.text[p.at]) {
		p.at++
	}
}

// part reads one word, phrase or filter. It reports whether that added anything to the query.
func (p *parser) part() (added bool, err error) {
	start := p.at
	not := p.text[p.at] == '-' && p.at+1 < len(p.text) && !unicode.IsSpace(p.text[p.at+1])
	if not {
		p.at++
	}
	if f := p.filter(); f != nil {
		return true, p.value(f, not, start)
	}
	term := Term{Not: not}
	if p.text[p.at] == '"' {
		term.Phrase, term.Text = true, p.quoted()
	} else {
		term.Text = p.word(true)
	}
	// Nothing without a letter or a digit is in any index.
	if !strings.ContainsFunc(term.Text, alphanumeric) {
		return false, nil
	}
	p.query.Terms = append(p.query.Terms, term)
	p.spans = append(p.spans, span{start, p.at})
	return true, nil
}

// filter reads the name of a filter and its colon; nil when there is none.
func (p *parser) filter() *filter {
	rest := p.text[p.at:]
	colon := slices.Index(rest[:min(len(rest), len("collection:"))], ':')
	if colon < 0 {
		return nil
	}
	key := string(rest[:colon])
	for i := range filters {
		if strings.EqualFold(filters[i].key, key) && len(key) == len(filters[i].key) {
			p.at += colon + 1
			return &filters[i]
		}
	}
	return nil
}

// value reads the value of a filter. start is where the filter, with its minus, starts.
func (p *parser) value(f *filter, not bool, start int) error {
	var value string
	if p.at < len(p.text) && p.text[p.at] == '"' {
		value = p.quoted()
	} else {
		value = p.word(false)
	}
	value = strings.TrimSpace(value)
	written := string(p.text[start:p.at])
	fail := func(message string) error {
		return &Error{Position: start + 1, Message: message + fmt.Sprintf(`; to look for the text itself, write it in quotes: %s`, quoted(clip(written)))}
	}
	if value == "" {
		return fail(fmt.Sprintf("%s: needs a value right after the colon, such as %s", f.key, f.example))
	}
	if f.bound == nil {
		if names := f.names(&p.query, not); !slices.Contains(*names, value) {
			*names = append(*names, value)
		}
		return nil
	}
	if not {
		return fail(fmt.Sprintf("%s: can't be excluded; after: and before: are each other's opposite", f.key))
	}
	t, ok := parseTime(value)
	if !ok {
		return fail(fmt.Sprintf("%s: needs a date such as %s or a time such as %[2]sT10:00:00Z", f.key, f.example))
	}
	if bound := f.bound(&p.query); bound.IsZero() || f.tighter(t, *bound) {
		*bound = t
	}
	return nil
}

// clip keeps a message short.
func clip(text string) string {
	const longest = 60
	if runes := []rune(text); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return text
}

// parseTime reads a day, which starts at midnight UTC, or a time.
func parseTime(value string) (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, value)
	if err != nil {
		// UnmarshalText is stricter than Parse: two digits for the hour, no comma before a fraction, an offset of less than a day.
		if err := t.UnmarshalText([]byte(strings.ToUpper(value))); err != nil {
			return t, false
		}
	}
	t = t.UTC().Truncate(time.Millisecond)
	return t, t.Year() >= 1 && t.Year() <= 9999 && !t.IsZero()
}

// word reads up to the next space, or also up to the next quote.
func (p *parser) word(endsAtQuote bool) string {
	start := p.at
	for p.at < len(p.text) && !unicode.IsSpace(p.text[p.at]) && (!endsAtQuote || p.text[p.at] != '"') {
		p.at++
	}
	return string(p.text[start:p.at])
}

// quoted reads what is between two quotes; \" and \\ stand for a quote and a backslash.
func (p *parser) quoted() string {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		r := p.text[p.at]
		switch {
		case r == '"':
			p.at++
			return b.String()
		case r == '\\' && p.at+1 < len(p.text) && (p.text[p.at+1] == '"' || p.text[p.at+1] == '\\'):
			p.at++
			r = p.text[p.at]
		}
		b.WriteRune(r)
	}
	return b.String()
}

func alphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
