// Package extract takes from a web page what is worth keeping: its title, its text without what surrounds it, its language. It reads the page as a
// stream of tags and builds no tree, so its time and memory are linear in the page, however deep, broken or hostile that is.
package extract

import (
	"bytes"
	"io"
	"mime"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/abadojack/whatlanggo"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/language"

	"github.com/atlas-platform/atlas/internal/sourceurl"
)

// Limits of a result, in bytes of UTF-8 where nothing else is said.
const (
	MaxText = 256 << 10
	MaxLine = 300 // characters of a title, a site's name, an excerpt
	// maxPage bounds a page in UTF-8, which takes up to three bytes for one of another charset.
	maxPage = 12 << 20
)

// Result is what a page says. Fields are empty where it doesn't.
type Result struct {
	Title    string
	SiteName string
	Excerpt  string
	// Text is the page's own text: paragraphs, separated by empty lines. It is cut after MaxText.
	Text string
	// Words is the number of words in the whole text; each ideograph counts as one.
	Words int
	// Language is a BCP 47 tag, such as en or pt-BR.
	Language string
	// CanonicalURL is the page's address as it says itself, else where it was found, in canonical form.
	CanonicalURL string
}

// Page reads a page of a content type that was found at a URL. It takes every input.
func Page(body []byte, contentType, at string) Result {
	media, _, _ := mime.ParseMediaType(contentType) // what can't be read is HTML
	text := decode(body, contentType)
	var d *document
	if media == "text/plain" {
		d = plain(text)
	} else {
		d = parse(text)
	}
	blocks := d.content()
	r := Result{SiteName: cut(clean(d.meta["og:site_name"])), CanonicalURL: canonical(d, at)}
	r.Title = d.pageTitle(r.SiteName)
	r.Text, r.Words = join(blocks)
	r.Excerpt = d.excerpt(blocks)
	r.Language = d.language(r.Text)
	return r
}

// decode makes valid UTF-8 of a page. The charset is the header's, the page's own or a guess, in the order that browsers look.
func decode(body []byte, contentType string) string {
	reader, err := charset.NewReader(bytes.NewReader(body), contentType)
	if err == nil {
		var text strings.Builder
		if _, err = io.Copy(&text, io.LimitReader(reader, maxPage)); err == nil {
			return strings.ToValidUTF8(text.String(), "\uFFFD")
		}
	}
	return strings.ToValidUTF8(string(body), "\uFFFD")
}

// clean makes one line of a text: no controls, no runs of spaces, nothing invisible that turns the direction of the text around it.
func clean(text string) string {
	var out strings.Builder
	out.Grow(len(text))
	space := false
	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			space = out.Len() > 0
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff, r == 0xad:
		default:
			if space {
				out.WriteByte(' ')
				space = false
			}
			out.WriteRune(r)
		}
	}
	return out.String()
}

// cut shortens a text to MaxLine, where possible between two words.
func cut(text string) string {
	if utf8.RuneCountInString(text) <= MaxLine {
		return text
	}
	runes := []rune(text)[:MaxLine-1]
	short := string(runes)
	if space := strings.LastIndexByte(short, ' '); space > len(short)/2 {
		short = short[:space]
	}
	return strings.TrimRight(short, " ,;:-") + "…"
}

// join is the blocks' text, up to MaxText, and the number of all their words.
func join(blocks []block) (text string, words int) {
	var out strings.Builder
	for _, b := range blocks {
		words += b.words
		if out.Len() > 0 && out.Len() < MaxText {
			out.WriteString("\n\n")
		}
		if left := MaxText - out.Len(); left > 0 {
			out.WriteString(b.text[:min(len(b.text), left)])
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(out.String(), "")), words
}

// countWords counts runs of letters and digits, and ideographs one by one.
func countWords(text string) (n int) {
	inside := false
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana):
			n++
			inside = false
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.Is(unicode.Mn, r), inside && (r == '\'' || r == '’' || r == '-'):
			if !inside {
				n++
			}
			inside = true
		default:
			inside = false
		}
	}
	return n
}

// pageTitle prefers what the page tells others; its <title> often ends with the site's name.
func (d *document) pageTitle(site string) string {
	for _, name := range []string{"og:title", "twitter:title"} {
		if title := clean(d.meta[name]); title != "" {
			return cut(title)
		}
	}
	title := clean(d.title)
	for _, separator := range []string{" | ", " - ", " – ", " — ", " · ", " :: "} {
		if before, found := strings.CutSuffix(title, separator+site); found && site != "" && before != "" {
			title = before
		}
	}
	if title == "" {
		title = clean(d.heading)
	}
	return cut(title)
}

func (d *document) excerpt(blocks []block) string {
	for _, name := range []string{"description", "og:description", "twitter:description"} {
		if text := clean(d.meta[name]); text != "" {
			return cut(text)
		}
	}
	first := ""
	for _, b := range blocks {
		if first == "" && !b.heading {
			first = b.text
		}
		if b.words >= 10 && !b.heading {
			first = b.text
			break
		}
	}
	return cut(clean(first[:min(len(first), 8*MaxLine)]))
}

// enough is how much text, in bytes, tells its language; more is not looked at than guessed.
const (
	enough  = 60
	guessed = 4000
)

// language is the one that the page states, else the one that its text looks like.
func (d *document) language(text string) string {
	for _, stated := range []string{d.lang, d.meta["content-language"], d.meta["og:locale"]} {
		stated, _, _ = strings.Cut(stated, ",")
		stated = strings.ReplaceAll(strings.TrimSpace(stated), "_", "-")
		if len(stated) > 35 {
			continue
		}
		if tag, err := language.Parse(stated); err == nil && tag != language.Und {
			if base, confidence := tag.Base(); confidence >= language.High && base.String() != "und" {
				return tag.String()
			}
		}
	}
	if len(text) < enough {
		return ""
	}
	text = strings.ToValidUTF8(text[:min(len(text), guessed)], "")
	if info := whatlanggo.Detect(text); info.IsReliable() {
		return info.Lang.Iso6391()
	}
	return ""
}

func canonical(d *document, at string) string {
	base, err := url.Parse(at)
	if err != nil {
		return ""
	}
	for _, stated := range []string{d.canonical, d.meta["og:url"]} {
		stated = strings.TrimSpace(stated)
		if stated == "" || len(stated) > 4*sourceurl.MaxLength {
			continue
		}
		if u, err := base.Parse(stated); err == nil {
			if form, err := sourceurl.Canonical(u.String()); err == nil {
				return form
			}
		}
	}
	form, err := sourceurl.Canonical(at)
	if err != nil {
		return ""
	}
	return form
}
