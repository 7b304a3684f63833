package api

import (
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
)

// accepted refuses a request whose Accept header (RFC 9110, 12.5.1) rules out everything that the operation can answer with. Problems are sent
// whatever it says: nothing else could tell the caller what is wrong.
func (op *operation) accepted(c *gin.Context) error {
	ranges := mediaRanges(c.Request.Header.Values("Accept"))
	if len(ranges) == 0 || len(op.answers) == 0 || slices.ContainsFunc(op.answers, func(offer string) bool { return quality(ranges, offer) > 0 }) {
		return nil
	}
	return notAcceptable(op.answers)
}

// mediaRange is one element of an Accept header.
type mediaRange struct {
	name    string // "application/json", "application/*" or "*/*"
	quality float64
}

// mediaRanges reads Accept headers. Elements that can't be read are left out, and parameters other than q don't matter.
func mediaRanges(headers []string) []mediaRange {
	var ranges []mediaRange
	for element := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		name, parameters, _ := mime.ParseMediaType(element)
		if name == "*" { // an old client's way to say it
			name = "*/*"
		}
		if !strings.Contains(name, "/") {
			continue
		}
		r := mediaRange{name: name, quality: 1}
		if q, given := parameters["q"]; given {
			value, err := strconv.ParseFloat(q, 64)
			if err != nil {
				continue
			}
			r.quality = value
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// quality is how much a media type is wanted: the most specific range that it is in decides.
func quality(ranges []mediaRange, mediaType string) float64 {
	main, _, _ := strings.Cut(mediaType, "/")
	for _, name := range []string{mediaType, main + "/*", "*/*"} {
		best, found := 0.0, false
		for _, r := range ranges {
			if r.name == name {
				best, found = max(best, r.quality), true
			}
		}
		if found {
			return best
		}
	}
	return 0
}
