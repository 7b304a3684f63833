package api

import (
	"context"
	"github.com/atlas-platform/atlas/services/api/gen"
)

func (s *server) BulkItems(context.Context, gen.BulkItemsRequestObject) (gen.BulkItemsResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) ListTags(context.Context, gen.ListTagsRequestObject) (gen.ListTagsResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) RenameTag(context.Context, gen.RenameTagRequestObject) (gen.RenameTagResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) DeleteTag(context.Context, gen.DeleteTagRequestObject) (gen.DeleteTagResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) MergeTags(context.Context, gen.MergeTagsRequestObject) (gen.MergeTagsResponseObject, error) {
	return nil, notFound("not built yet")
}
