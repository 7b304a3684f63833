package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/atlas-platform/atlas/internal/jsontext"
	"github.com/atlas-platform/atlas/services/api/gen"
)

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
		next := located(name, pointerOf(e), schemaMessage(e))
		if e.SchemaField == "pattern" && len(wrong) > 0 && samePlace(wrong[len(wrong)-1], next) {
			return wrong // an empty text is too short, which says enough
		}
		return append(wrong, next)
	default:
		switch {
		case errors.Is(err, openapi3filter.ErrInvalidRequired):
			return append(wrong, located(name, "", "is required"))
		case errors.Is(err, openapi3filter.ErrInvalidEmptyValue):
			return append(wrong, located(name, "", "must not be empty"))
		}
		return append(wrong, located(name, "", e.Error()))
	}
}

func samePlace(a, b gen.FieldError) bool {
	return (a.Pointer != nil && b.Pointer != nil && *a.Pointer == *b.Pointer) || (a.Parameter != nil && b.Parameter != nil && *a.Parameter == *b.Parameter)
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

// schemaMessage says what is wrong with a value, as a predicate, and what would be right.
func schemaMessage(e *openapi3.SchemaError) string {
	if _, ok := unknownField(e); ok {
		return "is not a field of this request"
	}
	if e.Schema == nil {
		return e.Reason
	}
	switch schema := e.Schema; e.SchemaField {
	case "required":
		return "is required"
	case "nullable":
		return "must not be null"
	case "type":
		return "must be " + typeName(schema)
	case "enum":
		return "must be " + oneOf(schema.Enum)
	case "minLength":
		return "must have at least " + counted(schema.MinLength, "character")
	case "maxLength":
		if message, ok := schema.Extensions["x-message"].(string); ok && schema.Pattern == "" { // what it counts are not characters
			return message
		}
		return "must have at most " + counted(*schema.MaxLength, "character")
	case "minItems":
		return "must have at least " + counted(schema.MinItems, "element")
	case "maxItems":
		return "must have at most " + counted(*schema.MaxItems, "element")
	case "uniqueItems":
		return "must not have an element twice"
	case "minProperties":
		return "must have at least " + counted(schema.MinProps, "field")
	case "maxProperties":
		return "must have at most " + counted(*schema.MaxProps, "field")
	case "minimum":
		return "must be at least " + strconv.FormatFloat(*schema.Min, 'f', -1, 64)
	case "maximum":
		return "must be at most " + strconv.FormatFloat(*schema.Max, 'f', -1, 64)
	case "pattern", "not":
		if message, ok := schema.Extensions["x-message"].(string); ok { // the specification's words for it
			return message
		}
	case "format":
		switch schema.Format {
		case "uuid":
			return errUUID.Error()
		case "date-time":
			return "must be a time such as 2026-01-22T10:00:00Z (RFC 3339)"
		}
	}
	return e.Reason
}

func typeName(schema *openapi3.Schema) string {
	names := map[string]string{
		openapi3.TypeObject: "an object", openapi3.TypeArray: "an array", openapi3.TypeString: "a string", openapi3.TypeInteger: "an integer",
		openapi3.TypeNumber: "a number", openapi3.TypeBoolean: "true or false", openapi3.TypeNull: "null",
	}
	var alternatives []string
	for _, name := range schema.Type.Slice() {
		alternatives = append(alternatives, names[name])
	}
	return strings.Join(alternatives, " or ")
}

func oneOf(values []any) string {
	if len(values) == 1 {
		return fmt.Sprint(values[0])
	}
	words := make([]string, len(values))
	for i, value := range values {
		words[i] = fmt.Sprint(value)
	}
	return "one of " + strings.Join(words, ", ")
}

func counted(n uint64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// parseMessage is for a parameter whose text is no value of its type.
func parseMessage(e *openapi3filter.ParseError) string {
	switch e.Reason {
	case "an invalid integer":
		return "must be an integer"
	case "an invalid number":
		return "must be a number"
	case "an invalid boolean":
		return "must be true or false"
	case "":
		return "has a value that can't be read"
	default:
		return e.Reason
	}
}
