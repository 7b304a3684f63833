package api_test

import (
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// TestExamplesAreValid: the reference shows the examples, clients copy them, and schemathesis starts from them.
func TestExamplesAreValid(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	for name, schema := range document.Components.Schemas {
		for _, example := range schema.Value.Examples {
			require.NoError(t, schema.Value.VisitJSON(example, openapi3.MultiErrors()), name)
		}
	}
	for id, operation := range specified(t) {
		if operation.RequestBody != nil {
			requireExamples(t, id+"'s request", operation.RequestBody.Value.Content)
		}
		for status, response := range operation.Responses.Map() {
			if strings.HasPrefix(status, "2") || status == "default" {
				requireExamples(t, id+"'s answer "+status, response.Value.Content)
			}
		}
	}
}

// requireExamples wants an example of each JSON body. That of a list follows from what is in it.
func requireExamples(t *testing.T, what string, content openapi3.Content) {
	t.Helper()
	for mediaType, body := range content {
		isJSON := strings.HasSuffix(mediaType, "/json") || strings.HasSuffix(mediaType, "+json")
		if !isJSON || len(body.Examples) > 0 {
			continue
		}
		require.True(t, hasExample(body.Schema.Value), "%s has no example", what)
	}
}

func hasExample(schema *openapi3.Schema) bool {
	if len(schema.Examples) > 0 {
		return true
	}
	lists := 0
	for _, property := range schema.Properties {
		if items := property.Value.Items; items != nil {
			if lists++; !hasExample(items.Value) && !items.Value.Type.Is("string") {
				return false
			}
		}
	}
	return lists > 0
}
