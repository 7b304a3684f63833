package portable

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/jsontext"
)

// NDJSONWriter writes a line for each item.
type NDJSONWriter struct{ encoder *json.Encoder }

// NewNDJSONWriter makes a writer. Each item is one Write to out.
func NewNDJSONWriter(out io.Writer) *NDJSONWriter {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return &NDJSONWriter{encoder: encoder}
}

// Write writes one item.
func (w *NDJSONWriter) Write(item Item) error {
	l := line{Title: item.Title, Content: item.Content, SourceURL: item.SourceURL, Tags: item.Tags, Metadata: json.RawMessage(`{}`)}
	if item.ID != uuid.Nil {
		l.ID = &item.ID
	}
	if l.Tags == nil {
		l.Tags = []string{}
	}
	if len(item.Metadata) > 0 {
		metadata, err := MarshalMetadata(item.Metadata)
		if err != nil {
			return err
		}
		l.Metadata = metadata
	}
	for _, t := range []struct {
		from time.Time
		to   **time.Time
	}{{item.CreatedAt, &l.CreatedAt}, {item.UpdatedAt, &l.UpdatedAt}} {
		if !t.from.IsZero() {
			utc := t.from.UTC()
			*t.to = &utc
		}
	}
	if err := w.encoder.Encode(l); err != nil {
		return fmt.Errorf("write a line: %w", err)
	}
	return nil
}

// Close is for symmetry with MarkdownWriter: there is nothing after the last line.
func (w *NDJSONWriter) Close() error { return nil }

// Discard does nothing.
func (w *NDJSONWriter) Discard() {}

// MarshalMetadata encodes metadata as one line of JSON.
func MarshalMetadata(metadata map[string]any) (json.RawMessage, error) {
	if len(metadata) == 0 {
		return json.RawMessage(`{}`), nil
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(metadata); err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// UnmarshalMetadata is the reverse of MarshalMetadata; nil for an empty object.
func UnmarshalMetadata(raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 || string(raw) == "{}" {
		return nil, nil
	}
	var metadata map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&metadata); err != nil {
		return nil, fmt.Errorf("decode metadata: %w", err)
	}
	return metadata, nil
}

// NDJSONReader reads an item from each line. Blank lines, a byte order mark and the carriage returns of Windows are allowed. A line that is not
// right is reported, and the reading goes on after it.
type NDJSONReader struct {
	in     *bufio.Reader
	buffer []byte
	at     Position
}

// NewNDJSONReader makes a reader.
func NewNDJSONReader(in io.Reader) *NDJSONReader {
	return ResumeNDJSON(in, Position{})
}

// ResumeNDJSON makes a reader of the rest of a file, from a position on that an earlier reader had.
func ResumeNDJSON(in io.Reader, at Position) *NDJSONReader {
	return &NDJSONReader{in: bufio.NewReaderSize(in, 64<<10), at: at}
}

// Position implements Reader.
func (r *NDJSONReader) Position() Position { return r.at }

var _ Reader = (*NDJSONReader)(nil)

// Next implements Reader.
func (r *NDJSONReader) Next() (Record, error) {
	for {
		content, tooLong, err := r.line()
		if err != nil {
			return Record{}, err
		}
		record := Record{Source: fmt.Sprintf("line %d", r.at.Records)}
		if tooLong {
			record.Wrong = []FieldError{{Message: fmt.Sprintf("is longer than %d bytes", MaxLine)}}
			return record, nil
		}
		if content = bytes.TrimSpace(content); len(content) == 0 {
			continue
		}
		record.Item, record.Wrong = decodeLine(content)
		return record, nil
	}
}

// line returns the next line, valid until the next call. Of one that is too long nothing is kept.
func (r *NDJSONReader) line() (content []byte, tooLong bool, err error) {
	r.at.Records++
	if cap(r.buffer) > MaxLine/8 {
		r.buffer = nil // an unusual line does not stay in memory
	}
	r.buffer = r.buffer[:0]
	for {
		piece, err := r.in.ReadSlice('\n')
		r.at.Offset += int64(len(piece))
		if tooLong = tooLong || len(r.buffer)+len(piece) > MaxLine; tooLong {
			r.buffer = r.buffer[:0]
		} else {
			r.buffer = append(r.buffer, piece...)
		}
		switch {
		case err == nil:
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (tooLong || len(r.buffer) > 0):
			// The last line may have no end.
		case errors.Is(err, io.EOF):
			return nil, false, io.EOF
		default:
			return nil, false, fmt.Errorf("read line %d: %w", r.at.Records, err)
		}
		if r.at.Records == 1 {
			return bytes.TrimPrefix(r.buffer, []byte("\xef\xbb\xbf")), tooLong, nil
		}
		return r.buffer, tooLong, nil
	}
}

func decodeLine(content []byte) (Item, []FieldError) {
	wrong := func(message string) []FieldError { return []FieldError{{Message: message}} }
	value, err := jsontext.Decode(content, maxValues)
	if err != nil {
		return Item{}, wrong(err.Error())
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return Item{}, wrong("must be a JSON object")
	}
	o := object{fields: fields}
	for name := range fields {
		if !known(name) {
			o.fail("/"+jsontext.EscapePointer(name), "is not a field of an item")
		}
	}
	slices.SortFunc(o.wrong, func(a, b FieldError) int { return bytes.Compare([]byte(a.Pointer), []byte(b.Pointer)) })
	if _, found := fields["title"]; !found {
		o.fail("/title", "is required")
	}
	return o.item()
}
