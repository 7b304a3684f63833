package api

import (
	"context"
	"github.com/atlas-platform/atlas/services/api/gen"
)

func (s *server) TransferCollection(context.Context, gen.TransferCollectionRequestObject) (gen.TransferCollectionResponseObject, error) {
	return nil, notFound("not built yet")
}
