package query_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/search/query"
)

func day(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

func word(text string) query.Term     { return query.Term{Text: text} }
func phrase(text string) query.Term   { return query.Term{Text: text, Phrase: true} }
func without(t query.Term) query.Term { t.Not = true; return t }
func terms(t ...query.Term) query.Query {
	return query.Query{Terms: t}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]query.Query{
		"":                       {},
		" \t\n":                  {},
		"fox":                    terms(word("fox")),
		"quick  fox":             terms(word("quick"), word("fox")),
		`"quick fox"`:            terms(phrase("quick fox")),
		`"quick fox`:             terms(phrase("quick fox")),
		`"`:                      {},
		`""`:                     {},
		`a"b c"d`:                terms(word("a"), phrase("b c"), word("d")),
		`"say \"hi\" \\ \n"`:     terms(phrase(`say "hi" \ \n`)),
		"-fox":                   terms(without(word("fox"))),
		`-"quick fox"`:           terms(without(phrase("quick fox"))),
		"--fox":                  terms(without(word("-fox"))),
		"- fox -":                terms(word("fox")),
		"-- --- -":               {},
		"-":                      {},
		"&& || () * 🚀":           {},
		"fox-trot":               terms(word("fox-trot")),
		"fox or bear AND -OR":    terms(word("fox"), word("or"), word("bear"), word("AND"), without(word("OR"))),
		"foo:bar http://x.y/z":   terms(word("foo:bar"), word("http://x.y/z")),
		"tags:x untag:x x:tag:y": terms(word("tags:x"), word("untag:x"), word("x:tag:y")),
		`"tag:x"`:                terms(phrase("tag:x")),
		"tag:go -tag:old":        {Tags: []string{"go"}, NotTags: []string{"old"}},
		"tag:go tag:go TAG:Go":   {Tags: []string{"go", "Go"}},
		`tag:"two words"`:        {Tags: []string{"two words"}},
		`tag:" padded "`:         {Tags: []string{"padded"}},
		`tag:"two words`:         {Tags: []string{"two words"}},
		`tag:a"b`:                {Tags: []string{`a"b`}},
		`tag:a:b tag:-c`:         {Tags: []string{"a:b", "-c"}},
		`tag:"q\"q"`:             {Tags: []string{`q"q`}},
		"collection:Notes":       {Collections: []string{"Notes"}},
		`-collection:"My notes"`: {NotCollections: []string{"My notes"}},
		"author:me author:a@b.c": {Authors: []string{"me", "a@b.c"}},
		"-author:me":             {NotAuthors: []string{"me"}},
		"after:2026-01-31":       {After: day(2026, 1, 31)},
		"before:2026-02-28":      {Before: day(2026, 2, 28)},
		"before:2026-02-28 before:2026-01-01 before:2026-03-01": {Before: day(2026, 1, 1)},
		"after:2026-02-28 after:2026-03-01 after:2026-01-01":    {After: day(2026, 3, 1)},
		"after:2026-01-31T10:00:00.1239+02:00":                  {After: time.Date(2026, 1, 31, 8, 0, 0, 123_000_000, time.UTC)},
		`before:"2026-01-31t10:00:00z"`:                         {Before: time.Date(2026, 1, 31, 10, 0, 0, 0, time.UTC)},
		`fox tag:a "b c" -d after:2026-01-01`: {
			Terms: []query.Term{word("fox"), phrase("b c"), without(word("d"))}, Tags: []string{"a"}, After: day(2026, 1, 1),
		},
	} {
		got, err := query.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestParseSaysWhatCantBeMeant(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		position int
		message  string
	}{
		"tag:":                                     {1, "tag: needs a value right after the colon, such as tag:recipe"},
		"größe tag: x":                             {7, `in quotes: "tag:"`},
		`x -author:""`:                             {3, "author:me"},
		`collection:" "`:                           {1, `collection:"Reading list"`},
		"a before:yesterday":                       {3, "before: needs a date such as before:2026-01-31 or a time such as before:2026-01-31T10:00:00Z"},
		"after:2026-02-30":                         {1, "after: needs a date"},
		"after:2026-13-01":                         {1, "after: needs a date"},
		"after:2026-01-01T00:00:00":                {1, "after: needs a date"},
		"after:0000-01-01":                         {1, "after: needs a date"},
		"before:9999-12-31T23:59:59-10:00":         {1, "before: needs a date"},
		"-before:2026-01-01":                       {1, "can't be excluded"},
		strings.Repeat("x", 1001):                  {1001, "at most 1000 characters"},
		strings.Repeat("x ", 65):                   {129, "at most 64 words"},
		"tag:x before:" + strings.Repeat("y", 200): {7, "…"},
	} {
		got, err := query.Parse(text)
		var failure *query.Error
		require.ErrorAs(t, err, &failure, text)
		require.Equal(t, want.position, failure.Position, text)
		require.Contains(t, failure.Message, want.message, text)
		require.Less(t, len(failure.Error()), 400)
		require.Zero(t, got)
	}
}

func TestNeedles(t *testing.T) {
	t.Parallel()
	needle := func(typed, text string, not bool, gaps []bool, words ...string) query.Needle {
		return query.Needle{Typed: typed, Text: text, Words: words, Gaps: gaps, Not: not}
	}
	for text, want := range map[string][]query.Needle{
		"the of -or":           nil,
		`"to be or not to be"`: nil,
		"don't":                nil,
		"Fox":                  {needle("Fox", "Fox", false, []bool{false}, "Fox")},
		"-wi-fi":               {needle("wi-fi", "wi-fi", true, []bool{false, false}, "wi", "fi")},
		`"The king of the hill"`: {
			needle("The king of the hill", "king of the hill", false, []bool{false, true, true, false}, "king", "of", "the", "hill"),
		},
		"a/b": {needle("a/b", "b", false, []bool{false}, "b")},
		"king's example.com": {
			needle("king's", "king's", false, []bool{false}, "king's"), needle("example.com", "example.com", false, []bool{false}, "example.com"),
		},
	} {
		q, err := query.Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, q.Needles(), text)
	}
}

// TestParseOfPrintIsTheSame tries sequences of everything that means something.
func TestParseOfPrintIsTheSame(t *testing.T) {
	t.Parallel()
	pieces := []string{
		"a", "fox", "é", "世界", "-", "--", `"`, `\`, `\"`, " ", "\u00a0", ":", "tag:", "Tag:", "collection:", "author:", "before:", "after:", "me",
		"2026-01-31", "2026-01-31T10:00:00Z", "2026-01-31T10:00:00.5+01:00", "\x00", "\xff", "or", "(", "x:", "0001-01-01",
	}
	random := rand.New(rand.NewPCG(1, 2))
	parsed := 0
	for range 50_000 {
		var text strings.Builder
		for range random.IntN(12) {
			text.WriteString(pieces[random.IntN(len(pieces))])
		}
		if roundTrip(t, text.String()) {
			parsed++
		}
	}
	require.Greater(t, parsed, 10_000)
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		``, `fox "quick brown" -bear`, `tag:go -tag:"two words" collection:Notes author:me`, `after:2026-01-31 before:2026-01-31T10:00:00.123+02:00`,
		`"unclosed`, `--x`, `foo:bar`, `tag:`, `before:never`, `"a\"b\\c"`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { roundTrip(t, text) })
}

// roundTrip checks what holds for every text, and reports whether it is a query.
func roundTrip(t *testing.T, text string) bool {
	t.Helper()
	q, err := query.Parse(text)
	if err != nil {
		var failure *query.Error
		require.True(t, errors.As(err, &failure), "%q", text)
		require.Positive(t, failure.Position)
		require.LessOrEqual(t, failure.Position, len([]rune(text))+1)
		require.NotEmpty(t, failure.Message)
		return false
	}
	printed := q.String()
	if len([]rune(printed)) > query.MaxLength { // quotes and escapes make it longer
		return true
	}
	again, err := query.Parse(printed)
	require.NoError(t, err, "%q printed as %q", text, printed)
	require.Equal(t, q, again, "%q printed as %q", text, printed)
	require.LessOrEqual(t, len(q.Needles()), query.MaxParts)
	for _, n := range q.Needles() {
		require.NotEmpty(t, n.Words)
		require.False(t, n.Gaps[0] || n.Gaps[len(n.Gaps)-1])
	}
	return true
}
