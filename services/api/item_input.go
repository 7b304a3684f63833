package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/atlas-platform/atlas/internal/metadata"
	"github.com/atlas-platform/atlas/internal/sourceurl"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// maxContent is the limit of an item's content in bytes of UTF-8.
const maxContent = 1 << 20

// checkItem names what the specification's schema can't express. Absent fields are nil. It returns the source in canonical form.
func checkItem(content, sourceURL *string, tags *[]string) (source *string, wrong []gen.FieldError) {
	if content != nil && len(*content) > maxContent {
		wrong = append(wrong, pointed("/content", fmt.Sprintf("has %d bytes of UTF-8; at most %d are possible", len(*content), maxContent)))
	}
	if sourceURL != nil {
		canonical, err := sourceurl.Canonical(*sourceURL)
		if err != nil {
			wrong = append(wrong, pointed("/source_url", err.Error()))
		}
		source = &canonical
	}
	if tags != nil {
		for i, tag := range *tags {
			if strings.TrimSpace(tag) == "" { // the validator's \s knows ASCII's spaces only
				wrong = append(wrong, pointed(fmt.Sprintf("/tags/%d", i), "must not be blank"))
			}
		}
	}
	return source, wrong
}

// checkTitle refuses an item that nobody could tell from others: a title may be empty where a source's page can give one.
func checkTitle(title string, source *string) []gen.FieldError {
	if strings.TrimSpace(title) == "" && source == nil {
		return []gen.FieldError{pointed("/title", "must not be blank")}
	}
	return nil
}

// metadataError says where in a request's metadata the mistake is.
func metadataError(err error) []gen.FieldError {
	var wrong *metadata.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return []gen.FieldError{pointed("/metadata"+wrong.Pointer, wrong.Message)}
	default:
		return []gen.FieldError{pointed("/metadata", err.Error())}
	}
}

// sourceKeyOf is what a source is found by; none for an item without one.
func sourceKeyOf(source *string) []byte {
	if source == nil {
		return nil
	}
	return sourceurl.Key(*source)
}

// wantedTags are the tags of a filter, each once and in one order, so that a cursor does not depend on how they were written.
func wantedTags(tags *[]string) []string {
	if tags == nil {
		return []string{}
	}
	return transfer.NormalTags(*tags)
}
