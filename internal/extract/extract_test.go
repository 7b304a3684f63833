package extract_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"

	"github.com/atlas-platform/atlas/internal/extract"
	"github.com/atlas-platform/atlas/internal/sourceurl"
)

const at = "https://example.com/found/here"

func page(t *testing.T, name string) extract.Result {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "pages", name))
	require.NoError(t, err)
	return extract.Page(body, "text/html; charset=utf-8", at)
}

func TestAPageThatMarksItsArticle(t *testing.T) {
	t.Parallel()
	require.Equal(t, extract.Result{
		Title: "Der Föhn in den Alpen", SiteName: "Wetterblatt", Language: "de-CH", Words: 52,
		Excerpt: "Warum der warme Fallwind Kopfweh macht & Schnee frisst.", CanonicalURL: "https://example.com/artikel/foehn",
		Text: "Der Föhn in den Alpen\n\n" +
			"Der Föhn ist ein warmer, trockener Fallwind, der auf der Leeseite der Gebirge weht und im Frühling den Schnee in wenigen Tagen verschwinden lässt.\n\n" +
			"Er entsteht, wenn feuchte Luft über den Kamm gedrückt wird, sich abregnet und auf der anderen Seite wieder absinkt. Dabei wird sie wärmer.",
	}, page(t, "marked.html"))
}

func TestAPageThatMarksNothing(t *testing.T) {
	t.Parallel()
	r := page(t, "unmarked.html")
	require.Equal(t, "Keeping a sourdough starter alive - Crumb & Crust", r.Title)
	require.Equal(t, "en", r.Language, "as the text looks")
	require.Equal(t, at, r.CanonicalURL)
	require.True(t, strings.HasPrefix(r.Text, "Keeping a sourdough starter alive\n\nA starter is"), r.Text)
	require.Contains(t, r.Text, "When it smells of acetone it is hungry")
	for _, around := range []string{"Recipes", "Contact", "Ten loaves", "hydration", "Copyright", "Bread"} {
		require.NotContains(t, r.Text, around)
	}
	require.True(t, strings.HasPrefix(r.Excerpt, "A starter is a small colony"), r.Excerpt)
}

func TestAHostilePage(t *testing.T) {
	t.Parallel()
	r := page(t, "hostile.html")
	require.Equal(t, "A <b>title</b> \uFFFD detrever", r.Title)
	require.Equal(t, "en", r.Language)
	require.Equal(t, at, r.CanonicalURL, "what is no good source_url is not taken")
	require.Contains(t, r.Text, "<script>alert(1)</script> &lt;")
	require.Contains(t, r.Text, "odd tag")
	require.NotContains(t, strings.Fields(r.Text), "no")
	require.NotContains(t, r.Text, "second")
}

// TestTheCanonicalLink is found whatever else its element says that it is: rel is a list.
func TestTheCanonicalLink(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://example.com/elsewhere"
	for rel, want := range map[string]string{
		`"canonical"`:                 elsewhere,
		`"stylesheet canonical"`:      elsewhere,
		"\"CANONICAL\n\tshortlink \"": elsewhere,
		`"stylesheet"`:                at,
		`"canonical-ish"`:             at,
		`""`:                          at,
	} {
		r := extract.Page([]byte("<link rel="+rel+` href="/elsewhere"><p>text`), "text/html", at)
		require.Equal(t, want, r.CanonicalURL, rel)
	}
}

func TestCharsets(t *testing.T) {
	t.Parallel()
	const text = "<title>Grüße</title><p>Ein Absatz mit Umlauten: äöüß, damit man etwas sieht, wenn es falsch gelesen wird, und lang genug ist er auch.</p>"
	latin, err := charmap.ISO8859_1.NewEncoder().String(text)
	require.NoError(t, err)
	for contentType, body := range map[string]string{
		"text/html; charset=iso-8859-1":   latin,
		"text/html":                       `<meta charset="iso-8859-1">` + latin,
		"text/html; charset=utf-8":        text,
		"text/html; charset=nonsense":     "\xef\xbb\xbf" + text,
		"application/xhtml+xml":           "\xef\xbb\xbf" + text,
		"text/html; charset=windows-1252": latin,
	} {
		r := extract.Page([]byte(body), contentType, at)
		require.Equal(t, "Grüße", r.Title, contentType)
		require.Contains(t, r.Text, "äöüß", contentType)
	}
	sjis, err := japanese.ShiftJIS.NewEncoder().String("<title>日本語</title><p>これは日本語の文章です。</p>")
	require.NoError(t, err)
	r := extract.Page([]byte(sjis), "text/html; charset=Shift_JIS", at)
	require.Equal(t, "日本語", r.Title)
	require.Equal(t, 11, r.Words)
}

func TestPlainText(t *testing.T) {
	t.Parallel()
	r := extract.Page([]byte("One <b>line</b>\r\nof two\r\n\r\nand a second\x00 paragraph"), "text/plain", at)
	require.Equal(t, "One <b>line</b> of two\n\nand a second paragraph", r.Text)
	require.Empty(t, r.Title)
	r = extract.Page([]byte("  a\u00a0\u00adb \u202e c\x00d\t e\ufeff "), "text/plain; charset=utf-8", at)
	require.Equal(t, "a b cd e", r.Text, "one line of what can be seen")
}

func TestTitles(t *testing.T) {
	t.Parallel()
	for body, title := range map[string]string{
		`<title>T</title><meta property="og:title" content="Open"><h1>H</h1>`: "Open",
		`<title>T</title><meta name="twitter:title" content="Tweet">`:         "Tweet",
		`<title> A  -  B </title><meta property="og:site_name" content="B">`:  "A",
		`<title>B</title><meta property="og:site_name" content="B">`:          "B",
		`<h1>First <em>one</em></h1><h1>Second</h1>`:                          "First one",
		`<svg><title>icon</title></svg>`:                                      "",
		`<title>` + strings.Repeat("word ", 100) + `</title>`:                 strings.TrimSuffix(strings.Repeat("word ", 59), " ") + "…",
		`<title>` + strings.Repeat("ü", 1000) + `</title>`:                    strings.Repeat("ü", 299) + "…",
	} {
		require.Equal(t, title, extract.Page([]byte(body), "text/html", at).Title, body)
	}
}

// hostile are pages that are cheap to send and must be cheap to read.
func hostile() map[string]string {
	const size = 4 << 20
	fill := func(text string) string { return strings.Repeat(text, size/len(text)) }
	return map[string]string{
		"deep":             fill("<div>"),
		"deep and closed":  strings.Repeat("<div>", size/11) + strings.Repeat("</div>", size/11),
		"formatting":       fill("<b><i><a><p>"),
		"tables":           fill("<table><tr><td><table>"),
		"attributes":       "<p " + fill("a=b ") + ">x",
		"long attribute":   `<a href="` + fill("x") + `">x`,
		"meta":             fill(`<meta name=description content=x>`),
		"many meta":        fill(`<meta property="og:title" content="y">`),
		"entities":         fill("&amp;"),
		"open comment":     "<!--" + fill("-"),
		"comments":         fill("<!---->"),
		"open script":      "<script>" + fill("</scrip"),
		"open title":       "<title>" + fill("t"),
		"less-than":        fill("<"),
		"regions":          fill("<article><main role=main itemprop=articleBody>"),
		"one word":         fill("x"),
		"spaces":           fill(" "),
		"words":            fill("a "),
		"blocks":           fill("<p>a"),
		"headings":         fill("<h1>a"),
		"links":            fill("<a>a "),
		"nul":              fill("\x00"),
		"broken UTF-8":     fill("\xff"),
		"open CDATA":       "<svg><![CDATA[" + fill("]"),
		"end tags":         fill("</div></a></article>"),
		"hidden":           fill("<div hidden>"),
		"canonical":        `<link rel=canonical href="` + fill("../") + `">`,
		"language":         `<html lang="` + fill("x-") + `">`,
		"language subtags": `<html lang="en` + strings.Repeat("-a-bb", 6) + `">` + fill("x"),
	}
}

func TestHostilePages(t *testing.T) {
	t.Parallel()
	for _, body := range hostile() {
		check(t, extract.Page([]byte(body), "text/html", at))
	}
}

func check(t *testing.T, r extract.Result) {
	t.Helper()
	for _, text := range []string{r.Title, r.SiteName, r.Excerpt, r.Text, r.Language, r.CanonicalURL} {
		require.True(t, utf8.ValidString(text))
		require.NotContains(t, text, "\x00")
	}
	require.LessOrEqual(t, len(r.Text), extract.MaxText)
	require.LessOrEqual(t, utf8.RuneCountInString(r.Title), extract.MaxLine)
	require.NotContains(t, r.Title, "\n")
	require.LessOrEqual(t, utf8.RuneCountInString(r.Excerpt), extract.MaxLine)
	require.LessOrEqual(t, len(r.Language), 35)
	form, err := sourceurl.Canonical(r.CanonicalURL)
	require.NoError(t, err)
	require.Equal(t, form, r.CanonicalURL)
}

func FuzzPage(f *testing.F) {
	for _, name := range []string{"marked.html", "unmarked.html", "hostile.html"} {
		body, err := os.ReadFile(filepath.Join("testdata", "pages", name))
		require.NoError(f, err)
		f.Add(body, "text/html")
	}
	f.Add([]byte("<meta charset=utf-16><p>x"), "text/html; charset=utf-7")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		check(t, extract.Page(body, contentType, at))
	})
}

func BenchmarkHostile(b *testing.B) {
	for name, body := range hostile() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				extract.Page([]byte(body), "text/html", at)
			}
		})
	}
}
