package query

import (
	"slices"
	"strings"
)

// Correct returns the query with other words in the terms that must be there.
func (q Query) Correct(words map[string]string) Query {
	q.Terms = slices.Clone(q.Terms)
	for i, t := range q.Terms {
		if !t.Not {
			q.Terms[i].Text = replaceWords(t.Text, words)
		}
	}
	return q
}

// Correct returns the text of a query with other words in the terms that must be there; all else stays as it was typed. It returns false when
// the text can't be parsed, or when the new words would be read as something else than words.
func Correct(text string, words map[string]string) (string, bool) {
	p := parser{text: []rune(text)}
	if p.parse() != nil {
		return "", false
	}
	var b strings.Builder
	at := 0
	for i, s := range p.spans {
		b.WriteString(string(p.text[at:s.start]))
		term := string(p.text[s.start:s.end])
		if !p.query.Terms[i].Not {
			term = replaceWords(term, words)
		}
		b.WriteString(term)
		at = s.end
	}
	b.WriteString(string(p.text[at:]))
	corrected, err := Parse(b.String())
	if err != nil || corrected.String() != p.query.Correct(words).String() {
		return "", false
	}
	return b.String(), true
}

func replaceWords(text string, words map[string]string) string {
	var b strings.Builder
	for text != "" {
		end := strings.IndexFunc(text, func(r rune) bool { return !inWord(r) })
		if end < 0 {
			end = len(text)
		}
		if other, ok := words[text[:end]]; ok {
			b.WriteString(other)
		} else {
			b.WriteString(text[:end])
		}
		text = text[end:]
		start := strings.IndexFunc(text, inWord)
		if start < 0 {
			start = len(text)
		}
		b.WriteString(text[:start])
		text = text[start:]
	}
	return b.String()
}
