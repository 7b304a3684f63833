package api

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/atlas-platform/atlas/services/api/gen"
)

const noExtract = "the page at the item's source was never asked for, or there is no such item, or you are not a member of its collection"

// GetItemExtract implements gen.StrictServerInterface.
func (s *server) GetItemExtract(ctx context.Context, request gen.GetItemExtractRequestObject) (gen.GetItemExtractResponseObject, error) {
	row, err := s.queries.GetExtract(ctx, caller(ctx).id(), request.ID)
	if missing(err) || (err == nil && row.ExtractID == nil) {
		return nil, notFound(noExtract)
	}
	if err != nil {
		return nil, fmt.Errorf("read the item's extract: %w", err)
	}
	body := gen.GetItemExtract200JSONResponse{
		ItemID: row.ID, Pending: row.Pending, FetchedAt: utc(row.FetchedAt), Error: row.ErrorCode, ErrorMessage: row.ErrorMessage,
		CanonicalURL: row.CanonicalUrl, SiteName: row.SiteName, Title: row.Title, Language: row.Language, Excerpt: row.Excerpt,
	}
	if row.WordCount != nil {
		words := int(*row.WordCount)
		body.WordCount = &words
	}
	if row.Text != nil {
		body.Text = *row.Text
	}
	return body, nil
}

// extractBody is what GetItem's query says of the page at an item's source; nil when it was never asked for.
func extractBody(stored json.RawMessage) *gen.ItemExtract {
	if stored == nil {
		return nil
	}
	var extract gen.ItemExtract
	if err := json.Unmarshal(stored, &extract); err != nil {
		return nil // the query writes what is read here
	}
	extract.FetchedAt = utc(extract.FetchedAt)
	return &extract
}
