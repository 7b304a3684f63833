package api_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

func TestServedSpecificationIsValid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.call(nil, "GET", "/openapi.json", nil).is(200)
	require.Equal(t, "application/json", a.header.Get("Content-Type"))
	require.Equal(t, "3.1.0", a.body["openapi"])
	document, err := openapi3.NewLoader().LoadFromData(a.raw)
	require.NoError(t, err)
	require.True(t, document.IsOpenAPI31OrLater())
	require.NoError(t, document.Validate(t.Context()))
	ids := make(map[string]bool)
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			require.NotEmpty(t, operation.OperationID, "%s %s", method, path)
			require.False(t, ids[operation.OperationID], "%s is there twice", operation.OperationID)
			ids[operation.OperationID] = true
			require.NotEmpty(t, operation.Summary, operation.OperationID)
			require.NotNil(t, operation.Responses.Default(), operation.OperationID)
			for _, parameter := range slices.Concat(item.Parameters, operation.Parameters) {
				require.NotEmpty(t, parameter.Value.Description, "%s: %s", operation.OperationID, parameter.Value.Name)
			}
			for status, response := range operation.Responses.Map() {
				for name, header := range response.Value.Headers {
					require.NotEmpty(t, header.Value.Description, "%s %s: %s", operation.OperationID, status, name)
				}
			}
			// Each described operation has a route: without a token it answers 401, or checks its input.
			route := regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(path, "00000000-0000-7000-8000-000000000000")
			want := []int{401, 415}
			if operation.OperationID == "getKeys" { // open to everybody, and takes no input
				want = []int{200}
			}
			require.Contains(t, want, b.call(nil, method, route, nil).status, "%s %s", method, path)
		}
	}
	require.Len(t, ids, 63)
}

// TestReferenceNeedsNoInternet follows every address that the page names.
func TestReferenceNeedsNoInternet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	page := b.call(nil, "GET", "/docs", nil).is(200)
	require.Contains(t, page.header.Get("Content-Type"), "text/html")
	require.Contains(t, page.header.Get("Content-Security-Policy"), "connect-src 'self'")
	require.Contains(t, string(page.raw), "/openapi.json")
	addresses := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(string(page.raw), -1)
	require.GreaterOrEqual(t, len(addresses), 3)
	for _, address := range addresses {
		require.True(t, strings.HasPrefix(address[1], "/docs/"), "%s is not on this server", address[1])
		asset := b.call(nil, "GET", address[1], nil).is(200)
		require.NotEmpty(t, asset.raw)
	}
	b.call(nil, "GET", "/docs/", nil).is(200)
	require.Equal(t, 404, b.call(nil, "GET", "/docs/nothing.js", nil).status)
	require.Contains(t, b.call(nil, "GET", "/livez", nil).is(200).header.Get("Content-Security-Policy"), "default-src 'none'")
}
