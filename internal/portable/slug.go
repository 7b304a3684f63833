package portable

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// maxSlug keeps a file's name, with the id, far below the 255 bytes that file systems allow.
const maxSlug = 100

// Slug turns any text into a part of a file name that every system takes: letters and digits, of any script, joined by hyphens, in at most 100
// bytes. It may be empty.
func Slug(text string) string {
	var out strings.Builder
	gap := false
	for _, r := range strings.ToLower(text) {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) {
			gap = true
			continue
		}
		hyphen := 0
		if gap && out.Len() > 0 {
			hyphen = 1
		}
		if out.Len()+hyphen+utf8.RuneLen(r) > maxSlug {
			break
		}
		if hyphen == 1 {
			out.WriteByte('-')
		}
		gap = false
		out.WriteRune(r)
	}
	return out.String()
}

// fileName is unique by the id. Without one, the caller has to see to it.
func fileName(title string, id uuid.UUID) string {
	name := Slug(title)
	switch {
	case id == uuid.Nil && name == "":
		return "item.md"
	case id == uuid.Nil:
		return name + ".md"
	case name == "":
		return id.String() + ".md"
	}
	return name + "-" + id.String() + ".md"
}
