package extract

import (
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Bounds of what a page can make us keep.
const (
	maxBlocks     = 50_000
	maxAttributes = 64
	maxMeta       = 4 << 10
)

// document is what a page's tags said.
type document struct {
	lang, title, heading, canonical string
	meta                            map[string]string
	blocks                          []block
}

// block is a run of text that no other starts or ends within: a paragraph, an item of a list, a cell of a table.
type block struct {
	text string
	// words are all, linked those within links.
	words, linked int
	heading       bool
	// place is the most specific part of the page that the block is in.
	place place
}

type place int8

const (
	elsewhere place = iota
	inMain
	inArticle
	inBody // the article's body, as the page marks it
)

func (b block) linkDensity() float64 {
	if b.words == 0 {
		return 0
	}
	return float64(b.linked) / float64(b.words)
}

// region is an element that is open: tags of its name are counted until it is closed. Zero when there is none.
type region struct {
	tag   atom.Atom
	depth int
}

// follow counts a tag of this name.
func (r *region) follow(tag atom.Atom, start bool) {
	if r.depth == 0 || r.tag != tag {
		return
	}
	if start {
		r.depth++
	} else {
		r.depth--
	}
}

type parser struct {
	document
	tokens *html.Tokenizer

	skipped  region
	regions  [inBody + 1]region
	links    region
	headings region

	text          strings.Builder // of the block at hand
	linked        strings.Builder // of it, what is within links
	heading       bool
	titled, found bool // the title was read; a heading of the first order was
	first         strings.Builder
}

// plain is a text without tags.
func plain(text string) *document {
	d := &document{meta: map[string]string{}}
	for paragraph := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		if paragraph = clean(paragraph); paragraph != "" && len(d.blocks) < maxBlocks {
			d.blocks = append(d.blocks, block{text: paragraph, words: countWords(paragraph), place: inBody})
		}
	}
	return d
}

func parse(text string) *document {
	p := &parser{document: document{meta: map[string]string{}}, tokens: html.NewTokenizer(strings.NewReader(text))}
	for p.next() {
	}
	p.flush()
	p.document.heading = p.first.String()
	return &p.document
}

// next takes one token; false at the end, wherever that is.
func (p *parser) next() bool {
	kind := p.tokens.Next()
	switch kind {
	case html.ErrorToken:
		return false
	case html.TextToken:
		if p.skipped.depth == 0 {
			p.write(p.tokens.Text())
		}
	case html.StartTagToken, html.SelfClosingTagToken:
		p.start(kind == html.SelfClosingTagToken)
	case html.EndTagToken:
		name, _ := p.tokens.TagName()
		p.end(atom.Lookup(name))
	}
	return true
}

func (p *parser) write(text []byte) {
	p.text.Write(text)
	if p.links.depth > 0 {
		p.linked.Write(text)
		p.linked.WriteByte(' ')
	}
	if p.headings.depth > 0 && p.headings.tag == atom.H1 && !p.found && p.first.Len() < maxMeta {
		p.first.Write(text)
	}
}

func (p *parser) start(closed bool) {
	name, more := p.tokens.TagName()
	tag := atom.Lookup(name)
	if p.skipped.depth > 0 {
		if !closed {
			p.skipped.follow(tag, true)
		}
		return
	}
	attributes := p.attributes(more)
	switch tag {
	case atom.Title:
		p.readTitle()
		return
	case atom.Meta:
		p.keep(attributes)
		return
	case atom.Link:
		if p.canonical == "" && hasToken(attributes["rel"], "canonical") {
			p.canonical = attributes["href"]
		}
		return
	case atom.Html:
		if p.lang == "" {
			p.lang = attributes["lang"]
		}
	case atom.Br:
		p.text.WriteByte('\n')
		return
	}
	if blockTags[tag] {
		p.flush()
	}
	if voidTags[tag] || (closed && tag == 0) {
		return
	}
	if p.skips(tag, attributes) {
		p.flush()
		p.skipped = region{tag, 1}
		return
	}
	p.open(tag, attributes)
}

// hasToken tells whether a list that is separated by spaces has a word, in any case.
func hasToken(list, word string) bool {
	return slices.ContainsFunc(strings.Fields(list), func(token string) bool { return strings.EqualFold(token, word) })
}

// readTitle reads the text of a <title>; the first counts. What follows a title without a text is its end tag.
func (p *parser) readTitle() {
	if p.tokens.Next() != html.TextToken || p.titled {
		return
	}
	text := p.tokens.Text()
	p.title, p.titled = strings.ToValidUTF8(string(text[:min(len(text), maxMeta)]), ""), true
}

// open follows an element for what it says about the text in it.
func (p *parser) open(tag atom.Atom, attributes map[string]string) {
	for i := range p.regions {
		p.regions[i].follow(tag, true)
	}
	p.links.follow(tag, true)
	p.headings.follow(tag, true)
	switch {
	case attributes["itemprop"] == "articleBody":
		p.enter(inBody, tag)
	case tag == atom.Article || attributes["role"] == "article":
		p.enter(inArticle, tag)
	case tag == atom.Main || attributes["role"] == "main":
		p.enter(inMain, tag)
	}
	if tag == atom.A && p.links.depth == 0 {
		p.links = region{tag, 1}
	}
	if headingTags[tag] {
		p.heading = true
		if p.headings.depth == 0 {
			p.headings = region{tag, 1}
		}
	}
}

func (p *parser) enter(where place, tag atom.Atom) {
	if p.regions[where].depth == 0 {
		p.flush()
		p.regions[where] = region{tag, 1}
	}
}

func (p *parser) end(tag atom.Atom) {
	if p.skipped.depth > 0 {
		p.skipped.follow(tag, false)
		return
	}
	if blockTags[tag] {
		p.flush()
	}
	for i := range p.regions {
		p.regions[i].follow(tag, false)
	}
	p.links.follow(tag, false)
	if p.headings.follow(tag, false); p.headings.depth == 0 && p.first.Len() > 0 {
		p.found = true
	}
}

// flush ends the block at hand.
func (p *parser) flush() {
	text := clean(p.text.String())
	if text != "" && len(p.blocks) < maxBlocks {
		b := block{text: text, words: countWords(text), linked: countWords(p.linked.String()), heading: p.heading}
		b.linked = min(b.linked, b.words)
		for where := inBody; where > elsewhere; where-- {
			if p.regions[where].depth > 0 {
				b.place = where
				break
			}
		}
		p.blocks = append(p.blocks, b)
	}
	p.text.Reset()
	p.linked.Reset()
	p.heading = p.headings.depth > 0
}

// attributes are those of a tag that matter; the first of a name counts.
func (p *parser) attributes(more bool) map[string]string {
	var out map[string]string
	for n := 0; more && n < maxAttributes; n++ {
		var key, value []byte
		key, value, more = p.tokens.TagAttr()
		name := string(key)
		if !keptAttributes[name] {
			continue
		}
		if _, known := out[name]; known {
			continue
		}
		if out == nil {
			out = make(map[string]string, 4)
		}
		out[name] = string(value[:min(len(value), 4*maxMeta)])
	}
	return out
}

// keep remembers a <meta>; the first of a name counts.
func (p *parser) keep(attributes map[string]string) {
	for _, by := range []string{"property", "name", "http-equiv"} {
		name := strings.ToLower(attributes[by])
		if _, known := p.meta[name]; keptMeta[name] && !known && strings.TrimSpace(attributes["content"]) != "" {
			content := attributes["content"]
			p.meta[name] = content[:min(len(content), maxMeta)]
			return
		}
	}
}

// skips reports whether an element has nothing of the page's own text.
func (p *parser) skips(tag atom.Atom, attributes map[string]string) bool {
	if skippedTags[tag] || (tag == atom.Header && p.regions[inArticle].depth == 0 && p.regions[inBody].depth == 0) {
		return true
	}
	if tag == atom.Html || tag == atom.Body {
		return false // a script shows them later
	}
	if _, hidden := attributes["hidden"]; hidden || attributes["aria-hidden"] == "true" {
		return true
	}
	switch attributes["role"] {
	case "navigation", "banner", "contentinfo", "complementary", "search", "dialog", "alertdialog", "menu", "menubar", "toolbar":
		return true
	}
	style := strings.ToLower(strings.ReplaceAll(attributes["style"], " ", ""))
	return strings.Contains(style, "display:none") || strings.Contains(style, "visibility:hidden")
}

func set[T comparable](members ...T) map[T]bool {
	out := make(map[T]bool, len(members))
	for _, m := range members {
		out[m] = true
	}
	return out
}

var (
	keptAttributes = set("lang", "rel", "href", "property", "name", "http-equiv", "content", "itemprop", "role", "hidden", "aria-hidden", "style")
	keptMeta       = set("og:title", "twitter:title", "og:url", "og:site_name", "og:locale", "description", "og:description", "twitter:description", "content-language")
	headingTags    = set(atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6)
	voidTags       = set(atom.Area, atom.Base, atom.Br, atom.Col, atom.Embed, atom.Hr, atom.Img, atom.Input, atom.Link, atom.Meta, atom.Source,
		atom.Track, atom.Wbr)
	skippedTags = set(atom.Script, atom.Style, atom.Noscript, atom.Template, atom.Svg, atom.Math, atom.Iframe, atom.Object, atom.Canvas, atom.Select,
		atom.Button, atom.Textarea, atom.Nav, atom.Aside, atom.Footer, atom.Dialog, atom.Audio, atom.Video, atom.Map, atom.Datalist, atom.Noframes,
		atom.Noembed, atom.Menu, atom.Xmp)
	blockTags = set(atom.Address, atom.Article, atom.Blockquote, atom.Body, atom.Caption, atom.Center, atom.Dd, atom.Details, atom.Div, atom.Dl, atom.Dt,
		atom.Fieldset, atom.Figcaption, atom.Figure, atom.Form, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Head, atom.Header, atom.Hr,
		atom.Html, atom.Legend, atom.Li, atom.Main, atom.Ol, atom.P, atom.Pre, atom.Section, atom.Summary, atom.Table, atom.Tbody, atom.Td, atom.Tfoot,
		atom.Th, atom.Thead, atom.Tr, atom.Ul)
)
