package api

import (
	"context"
	"github.com/atlas-platform/atlas/services/api/gen"
)

func (s *server) RestoreItem(context.Context, gen.RestoreItemRequestObject) (gen.RestoreItemResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) ListRevisions(context.Context, gen.ListRevisionsRequestObject) (gen.ListRevisionsResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) GetRevision(context.Context, gen.GetRevisionRequestObject) (gen.GetRevisionResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) RestoreRevision(context.Context, gen.RestoreRevisionRequestObject) (gen.RestoreRevisionResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) ListTrash(context.Context, gen.ListTrashRequestObject) (gen.ListTrashResponseObject, error) {
	return nil, notFound("not built yet")
}
