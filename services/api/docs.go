package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// docsPolicy lets the reference page run its own scripts, which the binary carries, and talk to this server only.
const docsPolicy = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// addDocs serves the specification at /openapi.json and an interactive reference at /docs, all from the binary.
func addDocs(router gin.IRouter, spec *spec) {
	router.GET("/openapi.json", func(c *gin.Context) {
		c.Header("Cache-Control", "no-cache")
		c.Data(http.StatusOK, "application/json", spec.json)
	})
	reference := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Atlas API", SwaggerJSON: "/openapi.json", BasePath: "/docs",
		SettingsUI: map[string]string{
			"validatorUrl":    "null", // else the page would ask a server on the Internet
			"tryItOutEnabled": "true",
		},
	})
	page := func(c *gin.Context) {
		c.Header("Content-Security-Policy", docsPolicy)
		c.Header("Cache-Control", "no-cache")
		reference.ServeHTTP(c.Writer, c.Request)
	}
	router.GET("/docs", page)
	router.GET("/docs/*asset", page)
}
