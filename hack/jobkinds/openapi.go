package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/atlas-platform/atlas/internal/jobschema"
)

// openAPI is the generated part of the specification's components/schemas.
func openAPI(kinds []jobschema.Kind) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, "    "+format+"\n", args...) }
	var types, variables, all, forms []string
	for _, kind := range kinds {
		types, variables = append(types, kind.Name), append(variables, "JobType"+pascal(kind.Name))
		all = append(all, fmt.Sprintf("- `%s`: %s", kind.Name, kind.Summary))
		if !kind.Internal {
			forms = append(forms, kind.Name)
		}
	}
	line("JobType:")
	line("  type: string")
	line("  description: |")
	line("    What a job does:")
	line("")
	for _, summary := range all {
		line("    %s", summary)
	}
	line("  enum: [%s]", strings.Join(types, ", "))
	line("  x-enum-varnames: [%s]", strings.Join(variables, ", "))
	writeUnion(line, "JobTemplate", forms)
	writeUnion(line, "JobCreate", forms)
	line("  examples:")
	for _, kind := range public(kinds) {
		line("  - %s", flow(example(kind)))
	}
	for _, kind := range public(kinds) {
		writeKind(line, kind)
	}
	return strings.ReplaceAll(out.String(), "    \n", "\n")
}

// writeUnion writes one of several forms of a job, told apart by its type.
func writeUnion(line func(string, ...any), union string, forms []string) {
	line("%s:", union)
	line("  oneOf:")
	for _, name := range forms {
		line("  - {$ref: '#/components/schemas/%s%s'}", pascal(name), union)
	}
	line("  discriminator:")
	line("    propertyName: type")
	line("    mapping:")
	for _, name := range forms {
		line("      %s: '#/components/schemas/%s%s'", name, pascal(name), union)
	}
}

func writeKind(line func(string, ...any), kind jobschema.Kind) {
	name, required := pascal(kind.Name), "type"
	if len(kind.Fields) > 0 { // {} says that the defaults are meant: to leave something out must not reindex all of Atlas
		required += ", parameters"
	}
	for _, form := range []string{"JobCreate", "JobTemplate"} {
		line("%s%s:", name, form)
		line("  type: object")
		line("  description: %s", quote(kind.Summary))
		line("  additionalProperties: false")
		line("  required: [%s]", required)
		line("  properties:")
		line("    type: {type: string, enum: [%s], x-go-type: string}", kind.Name)
		line("    parameters: {$ref: '#/components/schemas/%sParameters'}", name)
		line("    priority: {$ref: '#/components/schemas/JobPriority'}")
		if form == "JobCreate" { // a schedule says when
			line("    run_at: {$ref: '#/components/schemas/JobRunAt'}")
			line("    max_attempts: {$ref: '#/components/schemas/JobMaxAttempts'}")
		}
	}
	line("%sParameters:", name)
	line("  type: object")
	line("  additionalProperties: false")
	if len(kind.Fields) == 0 {
		line("  description: None.")
		return
	}
	var needed []string
	for _, field := range kind.Fields {
		if field.Required {
			needed = append(needed, field.Name)
		}
	}
	if len(needed) > 0 {
		line("  required: [%s]", strings.Join(needed, ", "))
	}
	writeNot(line, kind)
	line("  properties:")
	for _, field := range kind.Fields {
		line("    %s: {%s}", field.Name, strings.Join(schemaOf(field), ", "))
	}
}

// writeNot says that exactly one of some fields is needed, without a oneOf, which would make a union of the type; and which fields exclude others.
func writeNot(line func(string, ...any), kind jobschema.Kind) {
	var wrong, messages []string
	for _, group := range kind.Groups() {
		var each []string
		for i, field := range group {
			each = append(each, "{required: ["+field.Name+"]}")
			for _, other := range group[i+1:] {
				wrong = append(wrong, fmt.Sprintf("{required: [%s, %s]}", field.Name, other.Name))
			}
		}
		wrong = append(wrong, "{not: {anyOf: ["+strings.Join(each, ", ")+"]}}")
		messages = append(messages, "must have exactly one of "+enumeration(names(group, plain)))
	}
	for _, field := range kind.Fields {
		for _, other := range kind.Beside(field) {
			wrong = append(wrong, together(field, other))
		}
		if field.Without != nil {
			messages = append(messages, fmt.Sprintf("must not have %s together with %s, which would have no effect", field.Name, strings.Join(field.Without, " or ")))
		}
	}
	if len(wrong) > 0 {
		line("  not: {anyOf: [%s]}", strings.Join(wrong, ", "))
		line("  x-message: %s", quote(strings.Join(messages, ", and ")))
	}
}

// together is the schema of what has both fields: bools that are true, others that are there.
func together(fields ...jobschema.Field) string {
	var there, on []string
	for _, field := range fields {
		there = append(there, field.Name)
		if field.Type == jobschema.TypeBoolean && !field.List {
			on = append(on, field.Name+": {enum: [true]}")
		}
	}
	schema := "required: [" + strings.Join(there, ", ") + "]"
	if on != nil {
		schema += ", properties: {" + strings.Join(on, ", ") + "}"
	}
	return "{" + schema + "}"
}

func plain(name string) string { return name }

// schemaOf is a field's schema, for a flow mapping.
func schemaOf(field jobschema.Field) []string {
	value := []string{"type: " + field.Type}
	if field.Format != "" {
		value = append(value, "format: "+field.Format)
	}
	if field.Enum != nil {
		value = append(value, "enum: ["+strings.Join(field.Enum, ", ")+"]", "x-go-type: string")
	}
	least, greatest := "minLength", "maxLength"
	if field.Type == jobschema.TypeInteger {
		least, greatest = "minimum", "maximum"
	}
	value = append(value, bounds(least, field.Min, greatest, field.Max)...)
	if field.Pattern != "" {
		value = append(value, "pattern: "+quote(field.Pattern), "x-message: "+quote(field.Message))
	}
	if field.List {
		items := "items: {" + strings.Join(value, ", ") + "}"
		value = append([]string{"type: array"}, bounds("minItems", field.MinItems, "maxItems", field.MaxItems)...)
		value = append(value, "uniqueItems: true", items)
	}
	value = append(value, "description: "+quote(field.Doc))
	if field.Default != nil {
		value = append(value, "default: "+flow(field.Default))
	}
	return value
}

func bounds(least string, atLeast *int64, greatest string, atMost *int64) (out []string) {
	if atLeast != nil {
		out = append(out, least+": "+strconv.FormatInt(*atLeast, 10))
	}
	if atMost != nil {
		out = append(out, greatest+": "+strconv.FormatInt(*atMost, 10))
	}
	return out
}

// example is a job with the parameters that have an example, and those that it can't do without.
func example(kind jobschema.Kind) any {
	parameters, groups := make(map[string]any), make(map[string]bool)
	for _, field := range kind.Fields {
		wanted := field.Example != nil || field.Required || field.Group != "" || field.Name == jobschema.CollectionID
		if !wanted || (field.Group != "" && groups[field.Group]) {
			continue
		}
		groups[field.Group] = field.Group != ""
		parameters[field.Name] = exampleOf(field)
	}
	return struct {
		Type       string `json:"type"`
		Parameters any    `json:"parameters"`
	}{kind.Name, parameters}
}

func exampleOf(field jobschema.Field) any {
	if field.Example != nil {
		return field.Example
	}
	var value any = "text"
	switch {
	case field.Enum != nil:
		value = field.Enum[0]
	case field.Format == jobschema.FormatUUID:
		value = "01a1f0c2-8c2f-7d4b-8e3a-6f9b5c7d2e02"
	case field.Format == jobschema.FormatTime:
		value = "2026-01-22T10:00:00Z"
	case field.Format == jobschema.FormatURI:
		value = "https://example.com/"
	case field.Type == jobschema.TypeInteger:
		value = *field.Min
	case field.Type == jobschema.TypeBoolean:
		value = true
	}
	if field.List {
		return []any{value}
	}
	return value
}

// flow is a value as JSON, which is YAML too.
func flow(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // strings, numbers and what is made of them
	}
	return string(text)
}

// quote is a text in YAML.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
