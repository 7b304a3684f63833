package query

import (
	"strings"
	"unicode"
)

// Needle is a term in the form that a search engine looks for: words at their places. At least the first and the last one count.
type Needle struct {
	// Typed is what was typed, and Text that without the unimportant words around it.
	Typed, Text string
	// Words are the words of Text without the unimportant ones around them.
	Words []string
	// Gaps tells for each word whether it is unimportant: any word may be in its place.
	Gaps []bool
	Not  bool
}

// HasGaps reports whether any word may be in the place of one of the words.
func (n Needle) HasGaps() bool {
	for _, gap := range n.Gaps {
		if gap {
			return true
		}
	}
	return false
}

// Needles are the terms that can be looked for. A term of stop words only is none: they are in everything.
func (q Query) Needles() []Needle {
	var out []Needle
	for _, t := range q.Terms {
		if n, ok := needle(t); ok {
			out = append(out, n)
		}
	}
	return out
}

func needle(t Term) (Needle, bool) {
	words := Words(t.Text)
	text, typed := t.Text, len(words)
	for len(words) > 0 && stopWord(words[0]) {
		words = words[1:]
	}
	for len(words) > 0 && stopWord(words[len(words)-1]) {
		words = words[:len(words)-1]
	}
	if len(words) < typed {
		text = strings.Join(words, " ")
	}
	n := Needle{Typed: t.Text, Text: text, Words: words, Gaps: make([]bool, len(words)), Not: t.Not}
	for i, word := range words {
		n.Gaps[i] = stopWord(word)
	}
	return n, len(words) > 0
}

// Words are the words in a text: what the parts of a term are, each of which can be looked for by itself.
func Words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return !inWord(r) })
}

func inWord(r rune) bool {
	return alphanumeric(r) || unicode.IsMark(r) || strings.ContainsRune(joiners, r)
}

// joiners hold together what is one word: don't, example.com, snake_case.
const joiners = "'’._"

func stopWord(word string) bool {
	parts := strings.FieldsFunc(strings.ToLower(word), func(r rune) bool { return strings.ContainsRune(joiners, r) })
	for _, part := range parts {
		if !stopWords[part] {
			return false
		}
	}
	return true
}

// BeginsStopWord reports whether what is being typed may become a stop word.
func BeginsStopWord(prefix string) bool {
	for word := range stopWords {
		if strings.HasPrefix(word, strings.ToLower(prefix)) {
			return true
		}
	}
	return false
}

// stopWords are PostgreSQL's for English: its index does not have them, so no other engine may ask for them.
var stopWords = func() map[string]bool {
	words := make(map[string]bool)
	for _, word := range strings.Fields(`
		i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its itself they them
		their theirs themselves what which who whom this that these those am is are was were be been being have has had having do does did doing
		a an the and but if or because as until while of at by for with about against between into through during before after above below to
		from up down in out on off over under again further then once here there when where why how all any both each few more most other some
		such no nor not only own same so than too very s t can will just don should now`) {
		words[word] = true
	}
	return words
}()
