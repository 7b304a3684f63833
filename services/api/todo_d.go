package api

import (
	"context"
	"github.com/atlas-platform/atlas/services/api/gen"
)

func (s *server) Suggest(context.Context, gen.SuggestRequestObject) (gen.SuggestResponseObject, error) {
	return nil, notFound("not built yet")
}
