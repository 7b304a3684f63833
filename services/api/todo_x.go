package api

import (
	"context"
	"github.com/atlas-platform/atlas/services/api/gen"
)

func (s *server) ExportNDJSON(context.Context, gen.ExportNDJSONRequestObject) (gen.ExportNDJSONResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) ImportNDJSON(context.Context, gen.ImportNDJSONRequestObject) (gen.ImportNDJSONResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) ExportMarkdown(context.Context, gen.ExportMarkdownRequestObject) (gen.ExportMarkdownResponseObject, error) {
	return nil, notFound("not built yet")
}
func (s *server) ImportMarkdown(context.Context, gen.ImportMarkdownRequestObject) (gen.ImportMarkdownResponseObject, error) {
	return nil, notFound("not built yet")
}
