package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const noTag = "there is no such tag in this collection"

// ListTags implements gen.StrictServerInterface.
func (s *server) ListTags(ctx context.Context, request gen.ListTagsRequestObject) (gen.ListTagsResponseObject, error) {
	user, params := caller(ctx).id(), request.Params
	scope := []any{"tags", user, request.ID, params.Prefix}
	from, err := s.resume(params.Cursor, position{}, scope...)
	if err != nil {
		return nil, err
	}
	size := pageSize(params.Limit)
	rows, err := s.tagPage(ctx, db.ListTagsParams{UserID: user, CollectionID: request.ID, After: from.Text, PageSize: size + 1}, params.Prefix)
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	if len(rows) == 0 {
		if _, err := getCollection(ctx, s.queries, request.ID); err != nil {
			return nil, err
		}
	}
	rows, more := cut(rows, size)
	out := gen.ListTags200JSONResponse{Items: make([]gen.Tag, len(rows))}
	for i, row := range rows {
		out.Items[i] = tagBody(row)
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{Text: rows[len(rows)-1].Name}, scope...)
	}
	return out, err
}

func (s *server) tagPage(ctx context.Context, page db.ListTagsParams, prefix *string) ([]db.ListTagsRow, error) {
	if prefix == nil {
		return s.queries.ListTags(ctx, page)
	}
	found, err := s.queries.ListTagsByPrefix(ctx, db.ListTagsByPrefixParams{
		UserID: page.UserID, CollectionID: page.CollectionID, After: page.After, PageSize: page.PageSize, Prefix: *prefix,
	})
	rows := make([]db.ListTagsRow, len(found))
	for i, row := range found {
		rows[i] = db.ListTagsRow(row)
	}
	return rows, err
}

// RenameTag implements gen.StrictServerInterface.
func (s *server) RenameTag(ctx context.Context, request gen.RenameTagRequestObject) (gen.RenameTagResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	name := strings.TrimSpace(patch.Name)
	if name == "" { // the validator's \s knows ASCII's spaces only
		return nil, unprocessable(pointed("/name", "must not be blank"))
	}
	return retried(ctx, func() (answer gen.RenameTagResponseObject, err error) {
		err = s.write(ctx, func(q *db.Queries) error {
			tag, err := s.renameTag(ctx, q, request.ID, request.TagID, name)
			answer = gen.RenameTag200JSONResponse(tag)
			return err
		})
		return answer, err
	})
}

func (s *server) renameTag(ctx context.Context, q *db.Queries, collection, id uuid.UUID, name string) (gen.Tag, error) {
	if err := lockTagChanges(ctx, q, collection); err != nil {
		return gen.Tag{}, err
	}
	tag, err := getTag(ctx, q, collection, id)
	if err != nil || tag.Name == name {
		return tag, err
	}
	other, err := q.GetTagByName(ctx, collection, name)
	if err == nil {
		return tag, conflict("tag-exists", fmt.Sprintf("the tag %s has this name: merge this one into it (mergeTags)", other))
	}
	if !missing(err) {
		return tag, fmt.Errorf("look for a tag of this name: %w", err)
	}
	if err := s.retag(ctx, q, retagging{collection: collection, tags: []uuid.UUID{id}}); err != nil {
		return tag, err
	}
	if err := q.RenameTag(ctx, name, id); err != nil {
		return tag, fmt.Errorf("rename the tag: %w", err)
	}
	return getTag(ctx, q, collection, id)
}

// DeleteTag implements gen.StrictServerInterface.
func (s *server) DeleteTag(ctx context.Context, request gen.DeleteTagRequestObject) (gen.DeleteTagResponseObject, error) {
	return retried(ctx, func() (gen.DeleteTagResponseObject, error) {
		err := s.write(ctx, func(q *db.Queries) error {
			if err := lockTagChanges(ctx, q, request.ID); err != nil {
				return err
			}
			if _, err := getTag(ctx, q, request.ID, request.TagID); err != nil {
				return err
			}
			return s.dropTags(ctx, q, retagging{collection: request.ID, tags: []uuid.UUID{request.TagID}, unlink: true})
		})
		return gen.DeleteTag204Response{}, err
	})
}

// MergeTags implements gen.StrictServerInterface.
func (s *server) MergeTags(ctx context.Context, request gen.MergeTagsRequestObject) (gen.MergeTagsResponseObject, error) {
	if i := slices.Index(request.Body.TagIds, request.TagID); i >= 0 {
		return nil, unprocessable(pointed(fmt.Sprintf("/tag_ids/%d", i), "is the tag to merge into"))
	}
	return retried(ctx, func() (gen.MergeTagsResponseObject, error) {
		return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.MergeTagsResponseObject.VisitMergeTagsResponse,
			func(q *db.Queries) (gen.MergeTagsResponseObject, error) {
				tag, err := s.mergeTags(ctx, q, request.ID, request.TagID, request.Body.TagIds)
				return gen.MergeTags200JSONResponse(tag), err
			})
	})
}

func (s *server) mergeTags(ctx context.Context, q *db.Queries, collection, target uuid.UUID, sources []uuid.UUID) (gen.Tag, error) {
	if err := lockTagChanges(ctx, q, collection); err != nil {
		return gen.Tag{}, err
	}
	if tag, err := getTag(ctx, q, collection, target); err != nil {
		return tag, err
	}
	found, err := q.FindTags(ctx, collection, sources)
	if err != nil {
		return gen.Tag{}, fmt.Errorf("find the tags to merge: %w", err)
	}
	var wrong []gen.FieldError
	for i, id := range sources {
		if !slices.Contains(found, id) {
			wrong = append(wrong, pointed(fmt.Sprintf("/tag_ids/%d", i), "is no tag of this collection"))
		}
	}
	if len(wrong) > 0 {
		problem := notFound(describe(wrong))
		problem.fields = wrong
		return gen.Tag{}, problem
	}
	if err := s.dropTags(ctx, q, retagging{collection: collection, tags: found, unlink: true, target: &target}); err != nil {
		return gen.Tag{}, err
	}
	return getTag(ctx, q, collection, target)
}

// dropTags retags and deletes the tags that are without items then.
func (s *server) dropTags(ctx context.Context, q *db.Queries, r retagging) error {
	if err := s.retag(ctx, q, r); err != nil {
		return err
	}
	if err := q.DeleteTags(ctx, r.tags); err != nil {
		return fmt.Errorf("delete tags: %w", err)
	}
	return nil
}

// lockTagChanges starts a change of a collection's tags, for those who may write to it.
func lockTagChanges(ctx context.Context, q *db.Queries, collection uuid.UUID) error {
	row, err := getCollection(ctx, q, collection)
	if err != nil {
		return err
	}
	if !canEdit(row.Role) {
		return needsRole(row.Role, gen.Owner, gen.Editor)
	}
	if err := q.LockTagChanges(ctx, collection.String()); err != nil {
		return fmt.Errorf("wait for another change of the collection's tags: %w", err)
	}
	return nil
}

func getTag(ctx context.Context, q *db.Queries, collection, id uuid.UUID) (gen.Tag, error) {
	row, err := q.GetTag(ctx, collection, id)
	if missing(err) {
		return gen.Tag{}, notFound(noTag)
	}
	if err != nil {
		return gen.Tag{}, fmt.Errorf("read the tag: %w", err)
	}
	return tagBody(db.ListTagsRow(row)), nil
}

func tagBody(row db.ListTagsRow) gen.Tag {
	return gen.Tag{ID: row.ID, Name: row.Name, ItemCount: row.ItemCount}
}
