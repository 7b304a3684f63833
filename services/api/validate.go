package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/jsontext"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	// maxBody holds the largest item, 1 MiB of content, with every byte escaped as \u00XX, and the rest.
	maxBody = 8 << 20
	// maxValues is far more than a body has, where x-max-values does not say otherwise. Without it, a few megabytes of brackets or names would take
	// gigabytes to decode and to complain about.
	maxValues = 1000
	// maxErrors is how many errors in a body are named.
	maxErrors = 100
)

// The validator's built-in rules cover what requests use. Its JSON Schema 2020-12 mode, which a 3.1 document would switch on, compiles the
// schema again for each request; so it is told that the document is a 3.0 one.
var validatorDocument = &openapi3.T{OpenAPI: "3.0.3"}

var errUUID = errors.New("must be a UUID")

var (
	uuids = openapi3.WithStringFormatValidator("uuid", openapi3.NewCallbackValidator(func(value string) error {
		if len(value) != 36 || uuid.Validate(value) != nil {
			return errUUID
		}
		return nil
	}))
	// The validator's own rule is a pattern: it lets 30 February through. What can't be written again can't be part of a cursor's scope.
	times = openapi3.WithStringFormatValidator("date-time", openapi3.NewCallbackValidator(func(value string) error {
		var t time.Time
		if err := t.UnmarshalText([]byte(value)); err != nil {
			return err
		}
		_, err := t.MarshalText()
		return err
	}))
)

// validate checks a request against the specification and names everything that is wrong with it. It also refuses what PostgreSQL can't store:
// NUL characters and invalid UTF-8.
func (s *server) validate(spec *spec) gin.HandlerFunc {
	return func(c *gin.Context) {
		op := spec.operation(c.Request, c.FullPath())
		if op == nil {
			s.fail(c, fmt.Errorf("the specification has no %s %s", c.Request.Method, c.FullPath()))
			return
		}
		if err := op.check(c); err != nil {
			s.fail(c, err)
		}
	}
}

func (op *operation) check(c *gin.Context) error {
	if err := op.accepted(c); err != nil {
		return err
	}
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return badRequest("the query string is not well formed: " + err.Error())
	}
	wrong := op.checkParameters(c, query)
	if len(op.bodies) == 0 {
		if len(wrong) > 0 {
			return badRequest(describe(wrong), wrong...)
		}
		return nil
	}
	schema, err := op.mediaType(c)
	if err != nil {
		return err
	}
	if op.streamed {
		if len(wrong) > 0 {
			return badRequest(describe(wrong), wrong...)
		}
		return nil
	}
	value, content, err := readBody(c, op.maxValues)
	if err != nil {
		return err
	}
	inBody := checkBody(schema, value)
	switch {
	case len(wrong) > 0:
		wrong = append(wrong, inBody...)
		return badRequest(describe(wrong), wrong...)
	case len(inBody) > 0:
		return unprocessable(inBody...)
	}
	value = plainIntegers(schema, value)
	// The generated code binds the value that was checked instead of decoding the body a second time.
	c.Request.Body = checkedBody{ReadCloser: io.NopCloser(bytes.NewReader(content)), value: value}
	return nil
}

// checkedBody is what the generated code looks for: a body that carries its decoded value.
type checkedBody struct {
	io.ReadCloser
	value any
}

// ValidatedValue implements the interface that the generated code looks for.
func (b checkedBody) ValidatedValue() any { return b.value }

func (op *operation) checkParameters(c *gin.Context, query url.Values) []gen.FieldError {
	var wrong []gen.FieldError
	for name, values := range query {
		if !op.query[name] {
			wrong = append(wrong, parameter(strings.ToValidUTF8(name, "?"), "is no parameter of this operation"))
			continue
		}
		if slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) || strings.ContainsRune(v, 0) }) {
			wrong = append(wrong, parameter(name, "has a NUL character or is not UTF-8"))
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	params := make(map[string]string, len(c.Params))
	for _, p := range c.Params {
		params[p.Key] = p.Value
	}
	err := openapi3filter.ValidateRequest(c.Request.Context(), &openapi3filter.RequestValidationInput{
		Request: c.Request, PathParams: params, QueryParams: query,
		Route: &routers.Route{Spec: validatorDocument, PathItem: op.pathItem, Operation: op.value, Method: c.Request.Method},
		Options: &openapi3filter.Options{
			MultiError: true, ExcludeRequestBody: true, SkipSettingDefaults: true,
			AuthenticationFunc:      openapi3filter.NoopAuthenticationFunc, // authenticate has done it
			SchemaValidationOptions: []openapi3.SchemaValidationOption{uuids, times},
		},
	})
	return fieldErrors(err, "", nil)
}

// mediaType finds the schema for the body's media type.
func (op *operation) mediaType(c *gin.Context) (*openapi3.Schema, error) {
	mediaType, parameters, err := mime.ParseMediaType(strings.Join(c.Request.Header.Values("Content-Type"), ", ")) // two of them are none
	schema := op.bodies[mediaType]
	charset := parameters["charset"]
	if err != nil || schema == nil || (charset != "" && !strings.EqualFold(charset, "utf-8")) || encoded(c.Request) {
		accepted := make([]string, 0, len(op.bodies))
		for name := range op.bodies {
			accepted = append(accepted, name)
		}
		slices.Sort(accepted)
		return nil, unsupportedMediaType("send the body in UTF-8, without Content-Encoding, as Content-Type: " + strings.Join(accepted, " or "))
	}
	return schema, nil
}

// readBody reads, decodes and bounds the body, which may have so many values.
func readBody(c *gin.Context, limit int) (value any, content []byte, err error) {
	content, err = io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	var exceeded *http.MaxBytesError
	switch {
	case errors.As(err, &exceeded):
		return nil, nil, tooLarge(exceeded.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, nil, tooSlow()
	case err != nil:
		return nil, nil, badRequest("the body could not be read to its end")
	case len(bytes.TrimSpace(content)) == 0:
		return nil, nil, badRequest("a JSON body is required")
	}
	value, err = jsontext.Decode(content, limit)
	if err != nil {
		return nil, nil, badRequest("the body " + err.Error())
	}
	return value, content, nil
}

// encoded tells whether a body is compressed. A small one that becomes a large one is a risk that saves little: bodies are small.
func encoded(r *http.Request) bool {
	coding := strings.Join(r.Header.Values("Content-Encoding"), ",")
	return coding != "" && !strings.EqualFold(coding, "identity")
}

func checkBody(schema *openapi3.Schema, value any) []gen.FieldError {
	wrong := nulErrors(value, "", schemaErrors(schema, value))
	return wrong[:min(len(wrong), maxErrors)]
}

func schemaErrors(schema *openapi3.Schema, value any) []gen.FieldError {
	return fieldErrors(schema.VisitJSON(value, openapi3.MultiErrors(), openapi3.VisitAsRequest(), uuids, times), "", nil)
}

// nulErrors names every string and key with a NUL character, which JSON can carry and PostgreSQL can't.
func nulErrors(value any, pointer string, wrong []gen.FieldError) []gen.FieldError {
	const message = "has a NUL character, which can't be stored"
	switch value := value.(type) {
	case string:
		if strings.ContainsRune(value, 0) {
			wrong = append(wrong, pointed(pointer, message))
		}
	case []any:
		for i, element := range value {
			wrong = nulErrors(element, fmt.Sprintf("%s/%d", pointer, i), wrong)
		}
	case map[string]any:
		for key, element := range value {
			wrong = nulErrors(element, pointer+"/"+jsontext.EscapePointer(key), wrong)
		}
	}
	return wrong
}

// fieldErrors flattens the validator's nested errors. name is the parameter that they are about; empty for the body.
func fieldErrors(err error, name string, wrong []gen.FieldError) []gen.FieldError {
	switch e := err.(type) { //nolint:errorlint // the nesting is walked here, level by level
	case nil:
		return wrong
	case openapi3.MultiError:
		for _, inner := range e {
			wrong = fieldErrors(inner, name, wrong)
		}
		return wrong
	case *openapi3filter.RequestError:
		if e.Parameter != nil {
			name = e.Parameter.Name
		}
		if e.Err == nil {
			return append(wrong, located(name, "", e.Reason))
		}
		return fieldErrors(e.Err, name, wrong)
	case *openapi3filter.ParseError:
		return append(wrong, located(name, "", parseMessage(e)))
	case *openapi3.SchemaError:
		if inUnion, ok := unionErrors(e); ok {
			return append(wrong, inUnion...)
		}
		return append(wrong, located(name, pointerOf(e), schemaMessage(e)))
	default:
		return append(wrong, located(name, "", e.Error()))
	}
}

func located(name, pointer, message string) gen.FieldError {
	if name != "" {
		return parameter(name, message)
	}
	return pointed(pointer, message)
}

func pointerOf(e *openapi3.SchemaError) string {
	var pointer strings.Builder
	for _, token := range e.JSONPointer() {
		pointer.WriteString("/" + jsontext.EscapePointer(token))
	}
	if name, ok := unknownField(e); ok {
		pointer.WriteString("/" + jsontext.EscapePointer(name)) // the validator points at the object around it
	}
	return pointer.String()
}

// unionErrors explains what is wrong with a value that may have one of several forms: the validator says only that it has none of them.
func unionErrors(e *openapi3.SchemaError) (wrong []gen.FieldError, ok bool) {
	if e.Schema == nil || e.Schema.Discriminator == nil || (e.SchemaField != "oneOf" && e.SchemaField != "discriminator") {
		return nil, false
	}
	at, field, forms := pointerOf(e), e.Schema.Discriminator.PropertyName, e.Schema.Discriminator.Mapping
	if e.SchemaField == "discriminator" {
		message := "is required"
		if e.Value != nil {
			message = "must be one of " + strings.Join(slices.Sorted(maps.Keys(forms)), ", ")
		}
		return []gen.FieldError{pointed(at+"/"+jsontext.EscapePointer(field), message)}, true
	}
	object, isObject := e.Value.(map[string]any)
	if !isObject {
		return []gen.FieldError{pointed(at, "must be an object")}, true
	}
	name, _ := object[field].(string)
	for _, form := range e.Schema.OneOf {
		if form.Ref == forms[name].Ref {
			wrong = schemaErrors(form.Value, object)
		}
	}
	return under(at, wrong), len(wrong) > 0
}

// under moves field errors of a value to where the value is in the body.
func under(pointer string, fields []gen.FieldError) []gen.FieldError {
	out := slices.Clone(fields)
	for i, field := range out {
		if field.Pointer != nil {
			out[i] = pointed(pointer+*field.Pointer, field.Message)
		}
	}
	return out
}

// unknownField returns the name of a field that the specification does not have. The validator tells it in its message only.
func unknownField(e *openapi3.SchemaError) (name string, ok bool) {
	quoted, found := strings.CutSuffix(e.Reason, " is unsupported")
	quoted, named := strings.CutPrefix(quoted, "property ")
	if e.SchemaField != "properties" || !found || !named {
		return "", false
	}
	name, err := strconv.Unquote(quoted)
	return name, err == nil
}

// schemaMessage prefers the words that the specification gives for a pattern to the pattern itself.
func schemaMessage(e *openapi3.SchemaError) string {
	if e.SchemaField == "pattern" && e.Schema != nil {
		if message, ok := e.Schema.Extensions["x-message"].(string); ok {
			return message
		}
	}
	if e.SchemaField == "format" && e.Schema != nil {
		switch e.Schema.Format {
		case "uuid":
			return errUUID.Error()
		case "date-time":
			return "must be a time such as 2026-01-22T10:00:00Z (RFC 3339)"
		}
	}
	if _, ok := unknownField(e); ok {
		return "is not a field of this request"
	}
	if e.SchemaField == "required" {
		return "is required"
	}
	return e.Reason
}

func parseMessage(e *openapi3filter.ParseError) string {
	if e.Reason != "" {
		return e.Reason
	}
	return "has a value that can't be read"
}
