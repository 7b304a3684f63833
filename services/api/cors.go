package api

import (
	"strings"

	"github.com/gin-gonic/gin"
)

// What browsers tell to a page of another origin, and what such a page may send, besides what is always possible.
var (
	exposedHeaders = strings.Join([]string{
		"Content-Disposition", "ETag", "Idempotency-Replayed", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate",
		"X-Request-Id", "traceparent",
	}, ", ")
	allowedHeaders = strings.Join([]string{
		"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "X-Request-Id", "traceparent",
	}, ", ")
)

// corsPolicy says which pages of other origins may call the API from a browser. Callers send their token themselves, so credentials that a
// browser would add on its own are never allowed.
type corsPolicy struct {
	any     bool
	origins map[string]bool
}

func newCORSPolicy(origins []string) corsPolicy {
	p := corsPolicy{origins: make(map[string]bool, len(origins))}
	for _, origin := range origins {
		p.any = p.any || origin == anyOrigin
		p.origins[origin] = true
	}
	return p
}

// answer lets a page of an allowed origin read the answer.
func (p corsPolicy) answer(c *gin.Context) {
	if len(p.origins) == 0 {
		return
	}
	h := c.Writer.Header()
	if !p.any {
		h.Add("Vary", "Origin")
	}
	origin := c.GetHeader("Origin")
	switch {
	case origin == "":
		return
	case p.any:
		h.Set("Access-Control-Allow-Origin", "*")
	case p.origins[origin]:
		h.Set("Access-Control-Allow-Origin", origin)
	default:
		return
	}
	h.Set("Access-Control-Expose-Headers", exposedHeaders)
}

// preflight answers a browser that asks whether a page may send a request.
func (p corsPolicy) preflight(c *gin.Context, allow string) {
	h := c.Writer.Header()
	if h.Get("Access-Control-Allow-Origin") == "" || c.GetHeader("Access-Control-Request-Method") == "" {
		return
	}
	h.Del("Access-Control-Expose-Headers") // of no use here
	h.Set("Access-Control-Allow-Methods", allow)
	h.Set("Access-Control-Allow-Headers", allowedHeaders)
	h.Set("Access-Control-Max-Age", "600")
}
