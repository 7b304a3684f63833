package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobschema"
)

// docs are the tables in the documentation.
func docs(kinds []jobschema.Kind) string {
	var out strings.Builder
	out.WriteString("\n| type | what a job does | who queues it | attempts | at the same time |\n|---|---|---|---|---|\n")
	for _, kind := range kinds {
		attempts, together := kind.MaxAttempts, "any number"
		if attempts == 0 {
			attempts = jobs.DefaultMaxAttempts
		}
		if kind.Concurrency > 0 {
			together = fmt.Sprint(kind.Concurrency)
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %d | %s |\n", kind.Name, cell(kind.Summary), who(kind), attempts, together)
	}
	out.WriteString("\n| type | parameter | in an `AtlasJob` | value | meaning |\n|---|---|---|---|---|\n")
	for _, kind := range public(kinds) {
		for _, field := range kind.Fields {
			fmt.Fprintf(&out, "| `%s` | `%s` | `%s.%s` | %s | %s |\n", kind.Name, field.Name, camel(kind.Name), camel(field.Name), cell(value(field, kind)+alone(field)),
				cell(field.Doc))
		}
	}
	out.WriteString("\n")
	return out.String()
}

func who(kind jobschema.Kind) string {
	switch {
	case kind.Internal:
		return "Atlas itself"
	case kind.Scope == jobs.ScopePlatform:
		return "platform admins"
	case kind.Scope == jobs.ScopeEither:
		return "the collection's owners and editors; platform admins, who need not name one"
	default:
		return "the collection's owners and editors; platform admins"
	}
}

// value says what a field may be and whether it must be there.
func value(field jobschema.Field, kind jobschema.Kind) string {
	text := map[string]string{
		jobschema.TypeString: "string", jobschema.TypeBoolean: "`true` or `false`", jobschema.TypeInteger: "integer",
		jobschema.FormatUUID: "UUID", jobschema.FormatTime: "time (RFC 3339)", jobschema.FormatURI: "URL",
	}[cmp.Or(field.Format, field.Type)]
	if field.Enum != nil {
		text = "`" + strings.Join(field.Enum, "`, `") + "`"
	}
	if field.List {
		text = "list of " + map[string]string{jobschema.FormatUUID: "UUIDs", jobschema.FormatURI: "URLs"}[field.Format]
		if field.Format != jobschema.FormatUUID && field.Format != jobschema.FormatURI {
			text += field.Type + "s"
		}
		text += bounded(field.MinItems, field.MaxItems, "elements")
	}
	unit := ""
	if field.Type == jobschema.TypeString {
		unit = "characters"
	}
	text += bounded(field.Min, field.Max, unit)
	switch {
	case field.Required:
		return text + "; required"
	case field.Default != nil:
		return text + "; default `" + strings.Trim(flow(field.Default), `"`) + "`"
	case field.Group != "":
		for _, group := range kind.Groups() {
			if group[0].Group == field.Group {
				return text + "; exactly one of " + enumeration(names(group, func(n string) string { return "`" + n + "`" }))
			}
		}
	}
	return text
}

// alone names the fields that a field may not be given with.
func alone(field jobschema.Field) string {
	if field.Without == nil {
		return ""
	}
	return "; not together with `" + strings.Join(field.Without, "`, `") + "`"
}

func bounded(least, greatest *int64, unit string) string {
	var text string
	switch {
	case least != nil && greatest != nil:
		text = fmt.Sprintf(", %d to %d", *least, *greatest)
	case greatest != nil:
		text = fmt.Sprintf(", at most %d", *greatest)
	case least != nil:
		text = fmt.Sprintf(", at least %d", *least)
	default:
		return ""
	}
	if unit != "" {
		text += " " + unit
	}
	return text
}

// cell is a text in a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
