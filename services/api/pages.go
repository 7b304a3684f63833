package api

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
