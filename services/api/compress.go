package api

import (
	"mime"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/klauspost/compress/gzhttp"
)

// minCompressed is the size from which an answer is worth compressing.
const minCompressed = 1 << 10

// What a compressed answer's ETag has after the version: another representation needs another strong validator (RFC 9110, 8.8.3).
const (
	gzipSuffix = "-gzip"
	zstdSuffix = "-zstd"
)

// compress makes JSON answers smaller for callers that accept gzip or zstd. A stream stays one: each flush reaches the caller.
func compress(next http.Handler) (http.Handler, error) {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(minCompressed), gzhttp.CompressionLevel(3), gzhttp.ContentTypeFilter(compressible),
		gzhttp.SuffixETag(gzipSuffix))
	if err != nil {
		return nil, err
	}
	return wrap(next), nil
}

func compressible(contentType string) bool {
	mediaType, _, _ := mime.ParseMediaType(contentType)
	switch mediaType {
	case "application/json", "application/problem+json", "application/x-ndjson":
		return true
	default:
		return false
	}
}

// keepSecrets leaves answers that carry a secret as they are. A caller who can choose a part of an answer, and see how long it is compressed,
// could find out the rest of it (BREACH).
func keepSecrets(c *gin.Context) {
	if path := c.FullPath(); strings.HasPrefix(path, "/v1/auth/") || strings.HasPrefix(path, "/v1/tokens") {
		c.Header(gzhttp.HeaderNoCompression, "secret") // a note for the wrapper, which takes it out
	}
}
