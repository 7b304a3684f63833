// Package portabletest makes random items, with everything in them that a format may trip over.
package portabletest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/portable"
)

// Nasty are texts that some parser takes for something else, or can't write.
var Nasty = []string{
	"yes", "No", "on", "y", "null", "~", "true", "2026-01-01", "2026-01-01T10:00:00Z", "1e3", "0x10", "0o7", "1_000", ".inf", ".nan", "007", "-1", "12:30:45", "<<",
	"=", "---", "...", "- a", "# a", "a # b", "a: b", "key:", "? a", "*a", "&a", "!tag", "!!str a", "%a", "@a", "`a`", "{a}", "[a]", ",", "|", ">", "\"quoted\"", "'quoted'",
	" leading", "trailing ", "line\nbreak", "windows\r\n", "\ttab", "\x01\x1b\x7f", "\u0080\u0085\u009f", "\u2028\u2029", "\ufeffmark", "\ufffd", "\ufffe\uffff",
	"\u200b\u200e\u202e", "مرحبا بالعالم", "שלום", "日本語", "नमस्ते", "é e\u0301", "👩‍👩‍👧‍👦", "\U000e0001\U0010ffff", "\\", "\\n", "it's", "a, b; c", "con", "../../etc/passwd", "C:\\x",
	strings.Repeat("long ", 60), strings.Repeat("x", 600),
}

var letters = []rune("abcdeXYZ 0123456789 \t\n\"'\\:#-,[]{}&*!|>%@`äßéñمשд日👍\u0301\u00a0\u3000")

func text(r *rand.Rand, most int) string {
	if r.IntN(3) == 0 {
		return Nasty[r.IntN(len(Nasty))]
	}
	var out strings.Builder
	for range r.IntN(most) {
		out.WriteRune(letters[r.IntN(len(letters))])
	}
	return out.String()
}

func value(r *rand.Rand, depth int) any {
	switch n := r.IntN(9); {
	case n == 0:
		return nil
	case n == 1:
		return r.IntN(2) == 0
	case n == 2:
		return json.Number([]string{"0", "-0", "1", "-1.50", "1e3", "1E+5", "1e-300", "12345678901234567890123", "0.1", "3.0"}[r.IntN(10)])
	case n == 3:
		return json.Number(fmt.Sprint(r.Float64() * 1e6))
	case n == 4 && depth < 8:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = value(r, depth+1)
		}
		return list
	case n == 5 && depth < 8:
		return metadata(r, depth+1)
	default:
		return text(r, 40)
	}
}

func metadata(r *rand.Rand, depth int) map[string]any {
	out := make(map[string]any)
	for range r.IntN(4) {
		out[text(r, 10)] = value(r, depth)
	}
	return out
}

// Item makes an item as an export has it. It may break the limits of a stored one.
func Item(r *rand.Rand) portable.Item {
	created := time.UnixMicro(r.Int64N(17e14)).UTC()
	out := portable.Item{
		ID: uuid.Must(uuid.NewV7()), Title: "t" + text(r, 60), CreatedAt: created, UpdatedAt: created.Add(time.Duration(r.Int64N(1e15) / 1000 * 1000)),
	}
	switch r.IntN(6) {
	case 0:
	case 1:
		out.Content = "---\ntitle: not front matter\n---\n" + text(r, 10)
	case 2:
		out.Content = "no final newline"
	case 3:
		out.Content = "\r\nwindows\r\n---\r\n"
	default:
		out.Content = text(r, 2000)
	}
	if r.IntN(2) == 0 {
		source := "https://example.com/" + text(r, 20)
		out.SourceURL = &source
	}
	for range r.IntN(4) {
		out.Tags = append(out.Tags, text(r, 20))
	}
	if m := metadata(r, 0); len(m) > 0 {
		out.Metadata = m
	}
	return out
}
