package api

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// withHead is a router that answers HEAD wherever it answers GET: with the same header, while the HTTP server leaves the body out.
type withHead struct{ gin.IRouter }

// GET implements gin.IRoutes.
func (r withHead) GET(path string, handlers ...gin.HandlerFunc) gin.IRoutes {
	r.HEAD(path, handlers...)
	return r.IRouter.GET(path, handlers...)
}

// otherMethod answers OPTIONS with what is possible at a path, and 405 to every other method that is not.
func (s *server) otherMethod(spec *spec) gin.HandlerFunc {
	return func(c *gin.Context) {
		h := c.Writer.Header()
		allow := h.Get("Allow") // by the router
		if methods, exact := spec.methods[c.Request.URL.Path]; exact {
			allow = strings.Join(methods, ", ") // the router counts those of shadowed patterns too
		}
		allow += ", OPTIONS"
		h.Set("Allow", allow)
		if c.Request.Method != http.MethodOptions {
			s.fail(c, methodNotAllowed(c))
			return
		}
		s.cors.preflight(c, allow)
		c.Status(http.StatusNoContent)
		c.Writer.WriteHeaderNow()
	}
}

// addShadows keeps a path such as /v1/items/bulk from being taken for /v1/items/:id by the methods that only the latter has.
func addShadows(router gin.IRoutes, spec *spec, answer gin.HandlerFunc) {
	for path, methods := range spec.methods {
		shadowed := make(map[string]bool)
		for pattern, others := range spec.methods {
			if path != pattern && shadows(path, pattern) {
				for _, method := range others {
					shadowed[method] = !slices.Contains(methods, method)
				}
			}
		}
		for method, missing := range shadowed {
			if missing {
				router.Handle(method, path, answer)
			}
		}
	}
}

// shadows tells whether a request for path also matches the pattern other.
func shadows(path, other string) bool {
	return slices.EqualFunc(strings.Split(path, "/"), strings.Split(other, "/"), func(segment, pattern string) bool {
		return segment == pattern || (strings.HasPrefix(pattern, ":") && !strings.HasPrefix(segment, ":"))
	})
}

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
