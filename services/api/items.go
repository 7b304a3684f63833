package api

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// maxContent is the limit of an item's content in bytes of UTF-8.
const maxContent = 1 << 20

const noItem = "there is no such item, or you are not a member of its collection"

// GetItem implements gen.StrictServerInterface.
func (s *server) GetItem(ctx context.Context, request gen.GetItemRequestObject) (gen.GetItemResponseObject, error) {
	row, err := getItem(ctx, s.queries, request.ID)
	if err != nil {
		return nil, err
	}
	tag := etag(row.Version)
	if ifNoneMatch(request.Params.IfNoneMatch, row.Version) {
		return gen.GetItem304Response{Headers: gen.GetItem304ResponseHeaders{ETag: &tag}}, nil
	}
	return gen.GetItem200JSONResponse{Body: itemBody(row), Headers: gen.GetItem200ResponseHeaders{ETag: &tag}}, nil
}

// getItem reads an item as the caller sees it.
func getItem(ctx context.Context, q *db.Queries, id uuid.UUID) (db.GetItemRow, error) {
	row, err := q.GetItem(ctx, caller(ctx).id(), id)
	if missing(err) {
		return row, notFound(noItem)
	}
	if err != nil {
		return row, fmt.Errorf("read the item: %w", err)
	}
	return row, nil
}

// wantedTags are the tags of a filter, each once and in one order, so that a cursor does not depend on how they were written.
func wantedTags(tags *[]string) []string {
	if tags == nil {
		return []string{}
	}
	return normalTags(*tags)
}

// normalTags trims tags and drops duplicates. They are sorted as the database sorts them for an answer.
func normalTags(tags []string) []string {
	out := make([]string, len(tags))
	for i, tag := range tags {
		out[i] = strings.TrimSpace(tag)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkItem names what the specification's schema can't express. Absent fields are nil.
func checkItem(content, sourceURL *string, tags *[]string) error {
	var wrong []gen.FieldError
	if content != nil && len(*content) > maxContent {
		wrong = append(wrong, pointed("/content", fmt.Sprintf("has %d bytes of UTF-8; at most %d are possible", len(*content), maxContent)))
	}
	if sourceURL != nil {
		if u, err := url.Parse(*sourceURL); err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
			wrong = append(wrong, pointed("/source_url", "must be an http or https URL"))
		}
	}
	if tags != nil {
		for i, tag := range *tags {
			if strings.TrimSpace(tag) == "" { // the validator's \s knows ASCII's spaces only
				wrong = append(wrong, pointed(fmt.Sprintf("/tags/%d", i), "must not be blank"))
			}
		}
	}
	if len(wrong) > 0 {
		return unprocessable(wrong...)
	}
	return nil
}

func canEdit(role string) bool { return role == string(gen.Owner) || role == string(gen.Editor) }

// searchState says whether search has this version of an item.
func searchState(version, indexed int64) gen.SearchState {
	if indexed >= version {
		return gen.Indexed
	}
	return gen.Indexing
}

func itemBody(row db.GetItemRow) gen.Item {
	return gen.Item{
		ID: row.ID, CollectionID: row.CollectionID, Title: row.Title, Content: row.Content, SourceURL: row.SourceUrl, Tags: row.Tags, Metadata: row.Metadata,
		Version: row.Version, SearchState: searchState(row.Version, row.IndexedVersion), MyRole: gen.Role(row.Role),
		CreatedBy: row.CreatedBy, UpdatedBy: row.UpdatedBy, CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}
