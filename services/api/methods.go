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
