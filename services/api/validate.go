package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"

	"github.com/atlas-platform/atlas/internal/jsontext"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const (
	// maxBody is far more than a body has, where x-max-bytes does not say otherwise: a large one takes several times its size to decode, and some
	// operations are open to everybody. An item has 8 MiB: 1 MiB of content, with every byte escaped as \u00XX, and the rest.
	maxBody = 256 << 10
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
		if !isUUID(value) {
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

func isUUID(value string) bool {
	_, ok := writtenUUID(value)
	return ok
}

// validate checks a request against the specification and names everything that is wrong with it. It also refuses what PostgreSQL can't store:
// NUL characters and invalid UTF-8.
func (s *server) validate(spec *spec) gin.HandlerFunc {
	return func(c *gin.Context) {
		op := spec.operation(c.Request, c.FullPath())
		if op == nil {
			s.fail(c, fmt.Errorf("the specification has no %s %s", c.Request.Method, c.FullPath()))
			return
		}
		user, admitted := caller(c.Request.Context()).id(), false
		err := op.check(c, func() error {
			err := s.largeBodies.enter(c.Request.Context(), user)
			admitted = err == nil
			return err
		})
		if admitted {
			defer s.largeBodies.leave(user)
		}
		if err != nil {
			s.fail(c, err)
			return
		}
		c.Next() // here, so that a large body counts until it is answered
	}
}

func (op *operation) check(c *gin.Context, admit func() error) error {
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
	value, content, err := op.readBody(c, admit)
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
	if op.hasOnlyIDs(c, query) {
		return nil
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

// hasOnlyIDs tells, without the validator's machinery, that a request has no parameters but the IDs in its path, and that these are right.
func (op *operation) hasOnlyIDs(c *gin.Context, query url.Values) bool {
	return op.onlyIDs && len(query) == 0 &&
		!slices.ContainsFunc(op.headers, func(name string) bool { return c.Request.Header[name] != nil }) &&
		!slices.ContainsFunc(c.Params, func(p gin.Param) bool { return !isUUID(p.Value) })
}

// mediaType finds the schema for the body's media type.
func (op *operation) mediaType(c *gin.Context) (*openapi3.Schema, error) {
	mediaType, parameters, err := mime.ParseMediaType(strings.Join(c.Request.Header.Values("Content-Type"), ", ")) // two of them are none
	schema := op.bodies[mediaType]
	charset := parameters["charset"]
	if coded := encoded(c.Request); coded || err != nil || schema == nil || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		accepted := make([]string, 0, len(op.bodies))
		for name := range op.bodies {
			accepted = append(accepted, name)
		}
		slices.Sort(accepted)
		return nil, unsupportedMediaType(c.Request.Method, accepted, coded)
	}
	return schema, nil
}

// readAll reads a body that admit has to let in once it turns out to be large.
func readAll(body io.Reader, admit func() error) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(body, maxBody))
	if err != nil || len(content) < maxBody {
		return content, err
	}
	if err := admit(); err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(body)
	return append(content, rest...), err
}

// readBody reads, decodes and bounds the body.
func (op *operation) readBody(c *gin.Context, admit func() error) (value any, content []byte, err error) {
	if c.Request.ContentLength > op.maxBody {
		return nil, nil, tooLarge(op.maxBody)
	}
	content, err = readAll(http.MaxBytesReader(c.Writer, c.Request.Body, op.maxBody), admit)
	var refused *problem
	var exceeded *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
		return nil, nil, err
	case errors.As(err, &exceeded):
		return nil, nil, tooLarge(exceeded.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, nil, tooSlow()
	case err != nil:
		return nil, nil, badRequest("the body could not be read to its end")
	case len(bytes.TrimSpace(content)) == 0:
		return nil, nil, badRequest("a JSON body is required")
	}
	value, err = jsontext.Decode(content, op.maxValues)
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
