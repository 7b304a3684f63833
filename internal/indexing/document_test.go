package indexing

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// FuzzDocumentIsWhatEncodingJSONWrites decodes what encode wrote and compares it with what encoding/json makes of the same document.
func FuzzDocumentIsWhatEncodingJSONWrites(f *testing.F) {
	f.Add("title", "content", "tag", "https://example.com")
	f.Add("quote \" back \\ tab \t nl \n cr \r nul \x00 bell \x07 del \x7f", "é 漢 😀 \u2028 \u2029 \ufffd", "<b>&'", "")
	f.Add("\xff\xfe broken \xc3", "\xed\xa0\x80", "\xf0\x9f", "a\xc3(")
	f.Fuzz(func(t *testing.T, title, content, tag, source string) {
		d := Document{
			ID: uuid.New(), CollectionID: uuid.New(), Title: title, Content: content, Tags: []string{tag, "second"}, SourceURL: &source,
			CreatedBy: uuid.New(), CreatedAt: time.Unix(1, 2000).UTC(), UpdatedAt: time.Unix(3, 0).UTC(), Version: 7,
		}
		if source == "" {
			d.SourceURL, d.Tags = nil, []string{}
		}
		own, err := d.encode()
		require.NoError(t, err)
		type bare Document // without methods
		theirs, err := json.Marshal(bare(d))
		require.NoError(t, err)
		var a, b any
		require.NoError(t, json.Unmarshal(own, &a), "%s", own)
		require.NoError(t, json.Unmarshal(theirs, &b))
		require.Equal(t, b, a)
	})
}

func BenchmarkEncode(b *testing.B) {
	d := Document{Title: "A title of some words", Content: string(make([]byte, 0)), Tags: []string{"a", "b", "c"}}
	for range 20 {
		d.Content += "Some words of a text, \"quoted\" here and there.\n"
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.encode(); err != nil {
			b.Fatal(err)
		}
	}
}
