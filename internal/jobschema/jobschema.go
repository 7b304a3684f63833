// Package jobschema describes the parameters of jobs. The struct that a kind decodes its parameters into is the only place where they are written down:
// its fields and their tags say what clients may send, and the OpenAPI document, the CRDs and the documentation are generated from that.
//
// A field is a string, a bool, an integer, a UUID or a time, a pointer to one of these where its absence means something, or a list of them, which has each
// element once. Its tags are:
//
//	json      its name in the REST API, in snake_case
//	doc       what it means, in a sentence; every field has one
//	required  "true" when it has to be given
//	oneof     the name of a group of fields, exactly one of which has to be given
//	without   the names of fields, separated by commas, that have no effect beside this one and may not be given with it; a bool is given when it is true
//	enum      the values it may have, separated by commas
//	min, max  the least and the greatest value of an integer, length of a string in characters, or number of elements of a list, which must have a max, and a min, as an
//	          empty list would mean what its absence means
//	pattern   a regular expression for a string, which Go, ECMAScript and CEL understand alike; a list of strings has this, an enum or a format
//	format    uri, for a string
//	default   what its absence means, for readers: the kind itself has to see to it
//	example   a value for the examples
package jobschema

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/jobs"
)

// The types that a field has in JSON.
const (
	TypeString  = "string"
	TypeBoolean = "boolean"
	TypeInteger = "integer"
)

// The formats of strings.
const (
	FormatUUID = "uuid"
	FormatTime = "date-time"
	FormatURI  = "uri"
)

// Kind is a kind of job with its parameters.
type Kind struct {
	jobs.Kind
	Fields []Field
}

// Field is one parameter.
type Field struct {
	// Name is the field's in the API, GoName the struct's.
	Name, GoName string
	Doc          string
	Required     bool
	// Group is that of the fields exactly one of which has to be given; empty for most.
	Group string
	// Without are the names of the fields that have no effect beside this one, and may not be given with it.
	Without []string
	// List says that the field is a list of what the rest describes. MinItems and MaxItems bound it.
	List               bool
	MinItems, MaxItems *int64
	Type, Format       string
	Enum               []string
	// Min and Max bound an integer, or the length of a string.
	Min, Max *int64
	// Pattern is a regular expression, and Message what is wrong with a string that does not match it, "must be …".
	Pattern, Message string
	// Default and Example are JSON values; nil when there are none.
	Default, Example any
}

var (
	namePattern = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	tagNames    = []string{"json", "doc", "required", "oneof", "without", "enum", "min", "max", "pattern", "message", "format", "default", "example"}
)

// Kinds describes kinds in the order given. An error names the kind and the field that can't be described.
func Kinds(kinds []jobs.Kind) ([]Kind, error) {
	out := make([]Kind, len(kinds))
	for i, kind := range kinds {
		fields, err := Fields(kind.Parameters)
		if err != nil {
			return nil, fmt.Errorf("the parameters of kind %q: %w", kind.Name, err)
		}
		if err := check(kind, fields); err != nil {
			return nil, fmt.Errorf("kind %q: %w", kind.Name, err)
		}
		out[i] = Kind{Kind: kind, Fields: fields}
	}
	return out, nil
}

func check(kind jobs.Kind, fields []Field) error {
	if !namePattern.MatchString(kind.Name) {
		return errors.New("the name is not in snake_case")
	}
	if !strings.HasSuffix(kind.Summary, ".") {
		return errors.New("the summary is not a sentence")
	}
	place := slices.IndexFunc(fields, func(f Field) bool { return f.Name == CollectionID })
	if place >= 0 && (fields[place].Format != FormatUUID || fields[place].List) {
		return fmt.Errorf("%s is not a UUID", CollectionID)
	}
	if kind.Internal {
		return nil
	}
	switch kind.Scope {
	case jobs.ScopeCollection:
		if place < 0 || (!fields[place].Required && fields[place].Group == "") {
			return fmt.Errorf("its scope is a collection, but %s need not be given", CollectionID)
		}
	case jobs.ScopePlatform:
		if place >= 0 {
			return fmt.Errorf("its scope is all of Atlas, but it has a %s", CollectionID)
		}
	case jobs.ScopeEither:
		if place < 0 || fields[place].Required {
			return fmt.Errorf("its scope may be all of Atlas, but it has no %s or requires it", CollectionID)
		}
	default:
		return fmt.Errorf("unknown scope %q", kind.Scope)
	}
	return nil
}

// CollectionID is the parameter that names the collection which a job is about.
const CollectionID = "collection_id"

// Fields describes the fields of a struct; none for nil.
func Fields(parameters any) ([]Field, error) {
	if parameters == nil {
		return nil, nil
	}
	structure := reflect.TypeOf(parameters)
	if structure.Kind() != reflect.Struct {
		return nil, fmt.Errorf("%s is not a struct", structure)
	}
	fields := make([]Field, 0, structure.NumField())
	for member := range structure.NumField() {
		f := structure.Field(member)
		field, err := describe(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		fields = append(fields, field)
	}
	for _, field := range fields {
		for _, name := range field.Without {
			if !slices.ContainsFunc(fields, func(f Field) bool { return f.Name == name }) {
				return nil, fmt.Errorf("%s: it is to be without %s, but there is no field %q", field.GoName, name, name)
			}
		}
		members := 0
		for _, other := range fields {
			if other.Group == field.Group {
				members++
			}
		}
		if field.Group != "" && members < 2 {
			return nil, fmt.Errorf("%s: the group %q has no other field", field.GoName, field.Group)
		}
	}
	return fields, nil
}

func describe(f reflect.StructField) (Field, error) {
	tags, err := parseTags(string(f.Tag))
	if err != nil {
		return Field{}, err
	}
	name, _, _ := strings.Cut(tags["json"], ",")
	field := Field{Name: name, GoName: f.Name, Doc: tags["doc"], Required: tags["required"] == "true", Group: tags["oneof"], Pattern: tags["pattern"], Message: tags["message"]}
	switch {
	case !f.IsExported() || f.Anonymous:
		return field, errors.New("it is not exported, or embedded")
	case !namePattern.MatchString(name):
		return field, errors.New("its json tag has no name in snake_case")
	case !strings.HasSuffix(field.Doc, "."):
		return field, errors.New("its doc tag is not a sentence")
	case field.Required && (field.Group != "" || tags["default"] != ""):
		return field, errors.New("it is required, and has a default or alternatives")
	}
	if tags["without"] != "" {
		field.Without = strings.Split(tags["without"], ",")
	}
	switch {
	case field.Required && field.Without != nil:
		return field, errors.New("it is required, and is to be without others, which could never be given")
	case slices.Contains(field.Without, field.Name):
		return field, errors.New("it is to be without itself")
	}
	kind := f.Type
	if kind.Kind() == reflect.Slice && kind != reflect.TypeFor[[]byte]() {
		field.List, kind = true, kind.Elem()
	} else if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch {
	case kind == reflect.TypeFor[uuid.UUID]():
		field.Type, field.Format = TypeString, FormatUUID
	case kind == reflect.TypeFor[time.Time]():
		field.Type, field.Format = TypeString, FormatTime
	case kind.Kind() == reflect.String:
		field.Type, field.Format = TypeString, tags["format"]
	case kind.Kind() == reflect.Bool:
		field.Type = TypeBoolean
	case slices.Contains([]reflect.Kind{reflect.Int, reflect.Int32, reflect.Int64}, kind.Kind()):
		field.Type = TypeInteger
	default:
		return field, fmt.Errorf("it is a %s, for which there are no words", f.Type)
	}
	return field, field.constrain(tags)
}

// constrain reads the tags that say which values are allowed.
func (f *Field) constrain(tags map[string]string) error {
	least, greatest := &f.Min, &f.Max
	if f.List {
		least, greatest = &f.MinItems, &f.MaxItems
	}
	for tag, bound := range map[string]**int64{"min": least, "max": greatest} {
		if tags[tag] == "" {
			continue
		}
		value, err := strconv.ParseInt(tags[tag], 10, 64)
		if err != nil {
			return fmt.Errorf("its %s is not an integer", tag)
		}
		*bound = &value
	}
	if tags["enum"] != "" {
		f.Enum = strings.Split(tags["enum"], ",")
	}
	plain := f.Type == TypeString && f.Format == ""
	switch {
	case f.List && f.MaxItems == nil:
		return errors.New("it is a list without a max")
	case f.List && (f.MinItems == nil || *f.MinItems < 1):
		return errors.New("it is a list without a min: an empty one would mean what its absence means")
	case plain && !f.List && f.Enum == nil && f.Max == nil, f.Format == FormatURI && f.Max == nil:
		return errors.New("it is a string without a max")
	case plain && f.List && f.Enum == nil && f.Pattern == "":
		return errors.New("it is a list of any strings: give them an enum, a format or a pattern")
	case f.Type == TypeInteger && !f.List && (f.Min == nil || f.Max == nil):
		return errors.New("it is an integer without a min and a max")
	case f.Format != "" && !slices.Contains([]string{FormatUUID, FormatTime, FormatURI}, f.Format):
		return fmt.Errorf("unknown format %q", f.Format)
	case f.Type != TypeString && (f.Enum != nil || f.Pattern != ""), f.Type == TypeBoolean && (f.Min != nil || f.Max != nil):
		return errors.New("a tag does not suit its type")
	case (f.Pattern == "") != (f.Message == "") || strings.ContainsAny(f.Message, "\"`"):
		return errors.New("a pattern needs a message that says in words what it asks for, without quotation marks, and a message needs a pattern")
	}
	if _, err := regexp.Compile(f.Pattern); err != nil {
		return fmt.Errorf("its pattern: %w", err)
	}
	var err error
	if f.Default, err = f.value(tags["default"]); err != nil {
		return fmt.Errorf("its default: %w", err)
	}
	if f.Example, err = f.value(tags["example"]); err != nil {
		return fmt.Errorf("its example: %w", err)
	}
	return nil
}

// value reads a tag's value of the field's type; nil when there is none.
func (f *Field) value(text string) (any, error) {
	var value any
	switch {
	case text == "":
		return nil, nil //nolint:nilnil // nothing is a value here
	case f.Type == TypeBoolean:
		parsed, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		value = parsed
	case f.Type == TypeInteger:
		parsed, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not an integer", text)
		}
		value = parsed
	default:
		value = text
	}
	if f.List {
		value = []any{value}
	}
	return value, nil
}

// parseTags is reflect.StructTag.Lookup for all tags, with an error for those that nobody reads: a tag that is misspelt must not be lost.
func parseTags(tag string) (map[string]string, error) {
	out := make(map[string]string)
	for tag = strings.TrimSpace(tag); tag != ""; tag = strings.TrimSpace(tag) {
		name, rest, found := strings.Cut(tag, ":")
		quoted, err := strconv.QuotedPrefix(rest)
		if !found || err != nil {
			return nil, fmt.Errorf("its tags are not well formed at %q", tag)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("its tag %s: %w", name, err)
		}
		if !slices.Contains(tagNames, name) {
			return nil, fmt.Errorf("nobody reads a tag %q", name)
		}
		out[name], tag = value, rest[len(quoted):]
	}
	return out, nil
}

// Groups are the groups of fields exactly one of which has to be given, in the order of their first fields.
func (k Kind) Groups() [][]Field {
	var out [][]Field
	for i, field := range k.Fields {
		if field.Group == "" || slices.ContainsFunc(k.Fields[:i], func(f Field) bool { return f.Group == field.Group }) {
			continue
		}
		var group []Field
		for _, other := range k.Fields {
			if other.Group == field.Group {
				group = append(group, other)
			}
		}
		out = append(out, group)
	}
	return out
}

// Beside are the fields that may not be given with one.
func (k Kind) Beside(field Field) (out []Field) {
	for _, other := range k.Fields {
		if slices.Contains(field.Without, other.Name) {
			out = append(out, other)
		}
	}
	return out
}
