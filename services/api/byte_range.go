package api

import (
	"strconv"
	"strings"
)

// byteRange is a file, or a part of it that was asked for.
type byteRange struct {
	offset, length int64
	asked          bool
}

// parseRange reads a Range header (RFC 9110, 14.2) for a file of a size. A header that is not one range of bytes means the whole file, as the RFC lets
// a server say; satisfiable is false when there is nothing in the range.
func parseRange(header string, size int64) (part byteRange, satisfiable bool) {
	whole := byteRange{length: size}
	unit, spec, found := strings.Cut(header, "=")
	first, last, dash := strings.Cut(strings.Trim(spec, " \t"), "-")
	if !found || !dash || !strings.EqualFold(unit, "bytes") {
		return whole, true
	}
	from, fromOK := bytePosition(first)
	to, toOK := bytePosition(last)
	switch {
	case first == "" && toOK: // the last so many
		length := min(to, size)
		return byteRange{offset: size - length, length: length, asked: true}, length > 0
	case !fromOK || (last != "" && !toOK) || (last != "" && to < from):
		return whole, true
	case from >= size:
		return whole, false
	case last == "" || to >= size:
		to = size - 1
	}
	return byteRange{offset: from, length: to - from + 1, asked: true}, true
}

// bytePosition is a number of digits alone. One that is too large for an integer is larger than any file.
func bytePosition(text string) (int64, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, _ := strconv.ParseInt(text, 10, 64) // the largest one when it is out of range
	return n, true
}
