package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/gin-gonic/gin"
)

const defaultPageSize = 20

// pageSize is the size that was asked for, within the bounds that the specification has checked.
func pageSize(limit *int) int32 {
	if limit == nil {
		return defaultPageSize
	}
	return int32(*limit) //nolint:gosec // at most 100
}

// cut drops the one row more that was read to learn whether there is a next page.
func cut[T any](rows []T, size int32) (page []T, more bool) {
	if len(rows) > int(size) {
		return rows[:size], true
	}
	return rows, false
}

// next returns the cursor of the page after the one that ended at p, in the list that scope describes, and puts that page's address into the
// answer's Link header (RFC 8288).
func (s *server) next(ctx context.Context, p position, scope ...any) (*string, error) {
	cursor, err := s.cursors.Encode(p, scope...)
	if err != nil {
		return nil, err
	}
	c, ok := ctx.(*gin.Context)
	if !ok {
		return nil, errors.New("a handler's context is not gin's")
	}
	query := c.Request.URL.Query()
	query.Set("cursor", cursor)
	c.Header("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, c.Request.URL.EscapedPath(), query.Encode()))
	return &cursor, nil
}
