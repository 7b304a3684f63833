package api

import (
	"context"
	"github.com/atlas-platform/atlas/services/api/gen"
)

func (s *server) BulkItems(context.Context, gen.BulkItemsRequestObject) (gen.BulkItemsResponseObject, error) {
	return nil, notFound("not built yet")
}
