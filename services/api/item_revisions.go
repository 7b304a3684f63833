package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/metadata"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const noRevision = "the item has no such version, or what changed since then is not known"

// replaced is what the change of these fields replaces, for the revision that it makes.
func replaced(former db.GetItemRow, changed []string) (json.RawMessage, error) {
	before := make(map[string]any, len(changed))
	for _, field := range changed {
		switch field {
		case "collection_id":
			before[field] = former.CollectionID
		case "title":
			before[field] = former.Title
		case "content":
			before[field] = former.Content
		case "source_url":
			before[field] = former.SourceUrl
		case "tags":
			before[field] = former.Tags
		case "metadata":
			before[field] = former.Metadata
		}
	}
	return asJSON(before)
}

// ListRevisions implements gen.StrictServerInterface. The list ends where the history does: before the first version that is not known.
func (s *server) ListRevisions(ctx context.Context, request gen.ListRevisionsRequestObject) (gen.ListRevisionsResponseObject, error) {
	p := caller(ctx)
	scope := []any{"revisions", p.id(), request.ID}
	from, err := s.resume(request.Params.Cursor, position{Version: math.MaxInt64}, scope...)
	if err != nil {
		return nil, err
	}
	size := pageSize(request.Params.Limit)
	rows, err := s.queries.ListRevisions(ctx, db.ListRevisionsParams{ID: request.ID, UserID: p.id(), Before: from.Version, PageSize: size + 1})
	if err != nil {
		return nil, fmt.Errorf("list revisions: %w", err)
	}
	if len(rows) == 0 {
		return nil, notFound(noItem)
	}
	revisions, more := cut(revisionsOf(rows, from.Version), size)
	out := gen.ListRevisions200JSONResponse{Items: revisions}
	if more {
		out.NextCursor, err = s.next(ctx, position{Version: revisions[len(revisions)-1].Version}, scope...)
	}
	return out, err
}

// revisionsOf are the revisions before a version, without a gap, and the creation when nothing is missing.
func revisionsOf(rows []db.ListRevisionsRow, before int64) []gen.Revision {
	out := make([]gen.Revision, 0, len(rows)+1)
	due := min(before-1, rows[0].CurrentVersion)
	for _, row := range rows {
		if row.Version != due || due == 1 {
			break
		}
		out = append(out, gen.Revision{
			Version: row.Version, ChangedBy: row.ChangedBy, ChangedAt: row.ChangedAt.UTC(), ChangedFields: row.ChangedFields,
		})
		due--
	}
	if due == 1 {
		out = append(out, gen.Revision{Version: 1, ChangedBy: rows[0].CreatedBy, ChangedAt: rows[0].CreatedAt.UTC(), ChangedFields: everyField()})
	}
	return out
}

// GetRevision implements gen.StrictServerInterface.
func (s *server) GetRevision(ctx context.Context, request gen.GetRevisionRequestObject) (gen.GetRevisionResponseObject, error) {
	revision, err := getRevision(ctx, s.queries, request.ID, request.Version)
	return gen.GetRevision200JSONResponse(revision), err
}

// RestoreRevision implements gen.StrictServerInterface.
func (s *server) RestoreRevision(ctx context.Context, request gen.RestoreRevisionRequestObject) (gen.RestoreRevisionResponseObject, error) {
	return retried(ctx, func() (gen.RestoreRevisionResponseObject, error) {
		return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.RestoreRevisionResponseObject.VisitRestoreRevisionResponse,
			func(q *db.Queries) (gen.RestoreRevisionResponseObject, error) {
				row, err := s.editItemIn(ctx, q, request.ID, request.Params.IfMatch, revisionEdit(request.Version))
				tag := etag(row.Version)
				return gen.RestoreRevision200JSONResponse{Body: itemBody(row), Headers: gen.RestoreRevision200ResponseHeaders{ETag: &tag}}, err
			})
	})
}

// revisionEdit makes an item as it was at a version; it stays in its collection.
func revisionEdit(version int64) edit {
	return func(ctx context.Context, q *db.Queries, row *db.GetItemRow) ([]string, error) {
		then, err := getRevision(ctx, q, row.ID, version)
		if err != nil {
			return nil, err
		}
		var changed []string
		if then.Title != row.Title {
			row.Title, changed = then.Title, append(changed, "title")
		}
		if then.Content != row.Content {
			row.Content, changed = then.Content, append(changed, "content")
		}
		if !equal(then.SourceURL, row.SourceUrl) {
			source, wrong := checkItem(nil, then.SourceURL, nil) // it may be older than the rules
			if len(wrong) > 0 {
				return nil, unprocessable(wrong...)
			}
			if !equal(source, row.SourceUrl) {
				row.SourceUrl, row.Extract, changed = source, nil, append(changed, "source_url")
			}
		}
		if !slices.Equal(then.Tags, row.Tags) {
			row.Tags, changed = then.Tags, append(changed, "tags")
		}
		same, err := sameMetadata(then.Metadata, row.Metadata)
		if err == nil && !same {
			row.Metadata, changed = then.Metadata, append(changed, "metadata")
		}
		return changed, err
	}
}

func sameMetadata(a, b json.RawMessage) (bool, error) {
	first, err := metadata.Parse(a)
	if err != nil {
		return false, fmt.Errorf("read the stored metadata: %w", err)
	}
	second, err := metadata.Parse(b)
	if err != nil {
		return false, fmt.Errorf("read the stored metadata: %w", err)
	}
	return string(first.Encode()) == string(second.Encode()), nil
}

// getRevision rebuilds an item's state at a version.
func getRevision(ctx context.Context, q *db.Queries, id uuid.UUID, version int64) (gen.RevisionDetail, error) {
	row, err := q.GetRevision(ctx, version, caller(ctx).id(), id)
	switch {
	case missing(err):
		return gen.RevisionDetail{}, notFound(noItem)
	case err != nil:
		return gen.RevisionDetail{}, fmt.Errorf("read the revision: %w", err)
	}
	changes := row.CurrentVersion - version // after this one, which has a row too unless it was the creation
	fields := row.ChangedFields
	if version == 1 {
		fields = everyField()
	} else {
		changes++
	}
	if version < 1 || version > row.CurrentVersion || row.Known != changes {
		return gen.RevisionDetail{}, notFound(noRevision)
	}
	out := gen.RevisionDetail{
		Version: version, ChangedBy: row.ChangedBy, ChangedAt: row.ChangedAt.UTC(), ChangedFields: fields, Title: row.Title, Content: row.Content,
		Metadata: row.Metadata,
	}
	if err := json.Unmarshal(row.SourceUrl, &out.SourceURL); err != nil {
		return out, fmt.Errorf("read a revision's source: %w", err)
	}
	if err := json.Unmarshal(row.Tags, &out.Tags); err != nil {
		return out, fmt.Errorf("read a revision's tags: %w", err)
	}
	return out, nil
}
