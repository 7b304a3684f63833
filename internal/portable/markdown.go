package portable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/atlas-platform/atlas/internal/zipstream"
)

// The limits of an archive that is read.
const (
	// MaxFiles is how many entries an archive may have.
	MaxFiles = 1_000_000
	// MaxUnpacked is how many bytes its Markdown files may have together, and those that are damaged.
	MaxUnpacked = 2 << 30

	maxSource = 300
)

// Errors that end the reading of an archive.
var (
	ErrTooManyFiles = fmt.Errorf("the archive has more than %d files", MaxFiles)
	ErrUnpacked     = fmt.Errorf("the archive's Markdown files have more than %d bytes", MaxUnpacked)
)

// MarkdownWriter writes a zip archive with a Markdown file for each item.
type MarkdownWriter struct{ archive *zipstream.Writer }

// NewMarkdownWriter makes a writer. Discard it in any case.
func NewMarkdownWriter(out io.Writer) *MarkdownWriter {
	return &MarkdownWriter{archive: zipstream.NewWriter(out)}
}

// Write writes one item. Items without an id must have different titles.
func (w *MarkdownWriter) Write(item Item) error {
	content, err := encodeMarkdown(item)
	if err != nil {
		return err
	}
	return w.archive.Add(fileName(item.Title, item.ID), item.UpdatedAt, content)
}

// Close ends the archive.
func (w *MarkdownWriter) Close() error { return w.archive.Close() }

// Discard frees what the writer holds.
func (w *MarkdownWriter) Discard() { w.archive.Discard() }

// MarkdownReader reads an item from each Markdown file of a zip archive, also from files that other tools wrote: without front matter, the title
// is the first heading or the file's name; fields that an item does not have become metadata. Every entry is a record: hidden files, what
// is in hidden folders or __MACOSX, paths with .. and other files than Markdown are skipped, with a word on why, and so are folders, which need none.
type MarkdownReader struct {
	archive *zipstream.Reader
	at      Position
}

var _ Reader = (*MarkdownReader)(nil)

// NewMarkdownReader makes a reader. What is no archive is zipstream.ErrFormat.
func NewMarkdownReader(archive io.ReaderAt, size int64) (*MarkdownReader, error) {
	r, err := zipstream.NewReader(archive, size)
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	return &MarkdownReader{archive: r}, nil
}

// ResumeMarkdown makes a reader of the rest of an archive, from a position on that an earlier reader had.
func ResumeMarkdown(archive io.ReaderAt, size int64, at Position) (*MarkdownReader, error) {
	r, err := NewMarkdownReader(archive, size)
	if err != nil {
		return nil, err
	}
	for r.at.Records < at.Records {
		if _, err := r.archive.Next(); err != nil {
			return nil, fmt.Errorf("find the place in the archive: %w", err)
		}
		r.at.Records++
	}
	r.at.Unpacked = at.Unpacked
	return r, nil
}

// Files is how many entries the archive says it has.
func (r *MarkdownReader) Files() int64 { return r.archive.Files() }

// Position implements Reader.
func (r *MarkdownReader) Position() Position { return r.at }

// Next implements Reader.
func (r *MarkdownReader) Next() (Record, error) {
	file, err := r.archive.Next()
	if err != nil {
		return Record{}, err //nolint:wrapcheck // io.EOF must stay as it is, and the others say enough
	}
	if r.at.Records++; r.at.Records > MaxFiles {
		return Record{}, ErrTooManyFiles
	}
	name := strings.ReplaceAll(file.Name, `\`, "/")
	record := Record{Source: shorten(name)}
	if strings.HasSuffix(name, "/") {
		record.Skipped = true
		return record, nil
	}
	if why := leftOut(name); why != "" {
		record.Skipped, record.Wrong = true, []FieldError{{Message: why + " and was left out"}}
		return record, nil
	}
	content, effort, err := file.Content(MaxContent + MaxFrontMatter)
	r.at.Unpacked += effort
	switch {
	case r.at.Unpacked > MaxUnpacked:
		return Record{}, ErrUnpacked
	case errors.Is(err, zipstream.ErrTooLarge), errors.Is(err, zipstream.ErrFormat), errors.Is(err, zipstream.ErrUnsupported):
		record.Wrong = []FieldError{{Message: describe(err)}}
	case err != nil:
		return Record{}, fmt.Errorf("read %q: %w", record.Source, err)
	default:
		record.Item, record.Wrong = decodeMarkdown(name, content)
	}
	return record, nil
}

// leftOut says why a file is not read, or nothing.
func leftOut(name string) string {
	segments := strings.Split(name, "/")
	switch {
	case slices.Contains(segments, ".."):
		return `has ".." in its path`
	case slices.ContainsFunc(segments, hidden):
		return "is hidden"
	case !isMarkdown(name):
		return "is not Markdown (.md or .markdown)"
	default:
		return ""
	}
}

func describe(err error) string {
	switch {
	case errors.Is(err, zipstream.ErrTooLarge):
		return fmt.Sprintf("has more than %d bytes", MaxContent+MaxFrontMatter)
	case errors.Is(err, zipstream.ErrUnsupported):
		return "is encrypted, or compressed with something else than deflate"
	default:
		return "is damaged"
	}
}

func hidden(segment string) bool {
	return (strings.HasPrefix(segment, ".") && segment != ".") || segment == "__MACOSX"
}

func isMarkdown(name string) bool {
	extension := strings.ToLower(path.Ext(name))
	return extension == ".md" || extension == ".markdown"
}

// shorten keeps a report readable, whatever a file is called.
func shorten(name string) string {
	if len(name) <= maxSource {
		return name
	}
	return strings.ToValidUTF8(name[:maxSource], "") + "…"
}

func decodeMarkdown(name string, file []byte) (Item, []FieldError) {
	if !utf8.Valid(file) {
		return Item{}, []FieldError{{Message: "is not UTF-8"}}
	}
	var f *frontMatter
	front, content := splitFrontMatter(file)
	if front != nil {
		f = parseFrontMatter(front)
	}
	if f == nil {
		f, content = &frontMatter{object: object{fields: make(map[string]any)}}, bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))
	}
	if len(content) > MaxContent {
		f.fail("/content", fmt.Sprintf("has %d bytes of UTF-8; at most %d are possible", len(content), MaxContent))
	}
	f.fields["content"] = string(content)
	if f.fields["title"] == nil {
		f.fields["title"] = titleOf(name, content)
	}
	return f.item()
}

// titleOf is the first heading outside of code, or else the file's name.
func titleOf(name string, content []byte) string {
	code := false
	for line := range bytes.Lines(content) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "```") || strings.HasPrefix(text, "~~~") {
			code = !code
		}
		if heading, ok := strings.CutPrefix(text, "# "); ok && !code {
			if heading = strings.TrimSpace(strings.TrimRight(heading, "#")); heading != "" {
				return heading
			}
		}
	}
	base := path.Base(name)
	return strings.TrimSpace(strings.TrimSuffix(base, path.Ext(base)))
}
