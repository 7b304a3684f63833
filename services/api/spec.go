package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var specYAML []byte

// spec is the specification: as served, and as requests are checked against it.
type spec struct {
	json       []byte
	operations map[string]*operation
	// methods are what is possible at each path, as the router has it.
	methods map[string][]string
}

// operation is what the checks of one route need.
type operation struct {
	public   bool
	pathItem *openapi3.PathItem
	value    *openapi3.Operation
	query    map[string]bool
	headers  []string
	// onlyIDs says that a request need not have any parameters but those in the path, and that these are UUIDs.
	onlyIDs bool
	// bodies are the schemas of the request's body by media type; none when the operation takes no body.
	bodies map[string]*openapi3.Schema
	// maxBody is how many bytes a JSON body may have, and maxValues how many values.
	maxBody   int64
	maxValues int
	// answers are the media types of what the operation answers when it succeeds; none when there is nothing to say.
	answers []string
	// streamed says that the body is no JSON value: the handler reads it.
	streamed bool
}

func loadSpec() (*spec, error) {
	var tree any
	if err := yaml.Unmarshal(specYAML, &tree); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	served, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("turn openapi.yaml into JSON: %w", err)
	}
	document, err := openapi3.NewLoader().LoadFromData(served)
	if err != nil {
		return nil, fmt.Errorf("load openapi.yaml: %w", err)
	}
	s := &spec{json: served, operations: make(map[string]*operation), methods: make(map[string][]string)}
	for path, item := range document.Paths.Map() {
		for method, value := range item.Operations() {
			s.methods[ginPath(path)] = append(s.methods[ginPath(path)], method)
			if method == http.MethodGet {
				s.methods[ginPath(path)] = append(s.methods[ginPath(path)], http.MethodHead)
			}
			s.operations[routeKey(method, ginPath(path))] = newOperation(item, value)
		}
	}
	for _, methods := range s.methods {
		slices.Sort(methods)
	}
	return s, nil
}

func newOperation(item *openapi3.PathItem, value *openapi3.Operation) *operation {
	op := &operation{
		public: value.Security != nil && len(*value.Security) == 0, pathItem: item, value: value,
		query: make(map[string]bool), bodies: make(map[string]*openapi3.Schema), maxBody: maxBody, maxValues: maxValues,
	}
	if limit, ok := value.Extensions["x-max-bytes"].(float64); ok {
		op.maxBody = int64(limit)
	}
	if limit, ok := value.Extensions["x-max-values"].(float64); ok {
		op.maxValues = int(limit)
	}
	op.onlyIDs = true
	for _, parameter := range append(append(openapi3.Parameters{}, item.Parameters...), value.Parameters...) {
		switch p := parameter.Value; p.In {
		case openapi3.ParameterInPath:
			op.onlyIDs = op.onlyIDs && p.Schema.Value.Format == "uuid"
		case openapi3.ParameterInQuery:
			op.query[p.Name], op.onlyIDs = true, op.onlyIDs && !p.Required
		default:
			op.headers, op.onlyIDs = append(op.headers, http.CanonicalHeaderKey(p.Name)), op.onlyIDs && !p.Required
		}
	}
	if value.RequestBody != nil {
		for mediaType, content := range value.RequestBody.Value.Content {
			op.bodies[mediaType] = content.Schema.Value
			op.streamed = content.Schema.Value.Type.Is(openapi3.TypeString)
		}
	}
	for status, response := range value.Responses.Map() {
		for mediaType := range response.Value.Content {
			if strings.HasPrefix(status, "2") && !slices.Contains(op.answers, mediaType) {
				op.answers = append(op.answers, mediaType)
			}
		}
	}
	slices.Sort(op.answers)
	return op
}

// operation finds what belongs to a matched route. Every generated route has one; HEAD is GET's.
func (s *spec) operation(r *http.Request, fullPath string) *operation {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return s.operations[routeKey(method, fullPath)]
}

func routeKey(method, path string) string { return method + " " + path }

// ginPath turns /v1/items/{id} into gin's /v1/items/:id.
func ginPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}
