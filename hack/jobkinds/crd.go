package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/format"
	"slices"
	"strings"
	"text/template"

	"github.com/atlas-platform/atlas/internal/jobschema"
)

//go:embed crd.go.tmpl
var crdTemplate string

// crd is the Go source of the union in an AtlasJob's spec, with the markers that the CRD is made from.
func crd(kinds []jobschema.Kind) ([]byte, error) {
	t, err := template.New("crd").Funcs(template.FuncMap{
		"camel": camel, "inCEL": inCEL, "pascal": pascal, "inCamel": inCamel, "needed": needed, "groups": groupRules, "goType": goType, "given": given,
		"markers": markers, "types": func() string {
			out := make([]string, len(kinds))
			for i, kind := range kinds {
				out[i] = camel(kind.Name)
			}
			return strings.Join(out, ";")
		},
	}).Parse(crdTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse the CRD's template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, kinds); err != nil {
		return nil, fmt.Errorf("fill in the CRD's template: %w", err)
	}
	source, err := format.Source(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("format the CRD's types: %w", err)
	}
	return source, nil
}

// celReserved are the words that CEL keeps for itself.
var celReserved = []string{
	"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop", "namespace", "null", "package", "return", "true", "var",
	"void", "while",
}

// inCEL is camel as a rule has to spell it. Without that, a reserved word has no bounds for the estimate of a rule's cost.
func inCEL(name string) string {
	if name = camel(name); slices.Contains(celReserved, name) {
		return "__" + name + "__"
	}
	return name
}

// needed says what to set when a kind's field is missing.
func needed(kind jobschema.Kind) string {
	field := camel(kind.Name)
	for _, f := range kind.Fields {
		if f.Required {
			return "set " + field + "." + camel(f.Name)
		}
	}
	for _, group := range kind.Groups() {
		return "set " + field + " with one of " + enumeration(names(group, camel))
	}
	return "set " + field + ", to {} for the defaults"
}

type groupRule struct{ Rule, Message string }

// groupRules say that exactly one field of each group is needed, and which fields exclude others.
func groupRules(kind jobschema.Kind) (out []groupRule) {
	for _, group := range kind.Groups() {
		var has []string
		for _, field := range group {
			has = append(has, "has(self."+inCEL(field.Name)+")")
		}
		out = append(out, groupRule{
			Rule:    "[" + strings.Join(has, ", ") + "].exists_one(given, given)",
			Message: "set exactly one of " + enumeration(names(group, camel)),
		})
	}
	for _, field := range kind.Fields {
		for _, other := range kind.Beside(field) {
			out = append(out, groupRule{
				Rule:    "!(" + set(field) + " && " + set(other) + ")",
				Message: camel(other.Name) + " has no effect with " + camel(field.Name) + ": remove one of the two",
			})
		}
	}
	return out
}

// set is the condition in CEL that a field is given: a bool that is true, another that is there.
func set(field jobschema.Field) string {
	name := "self." + inCEL(field.Name)
	if field.Type == jobschema.TypeBoolean && !field.List {
		return "has(" + name + ") && " + name
	}
	return "has(" + name + ")"
}

// goType is the type of a field in an AtlasJob.
func goType(field jobschema.Field) string {
	base := map[string]string{jobschema.TypeString: "string", jobschema.TypeBoolean: "bool", jobschema.TypeInteger: "int64"}[field.Type]
	if field.Format == jobschema.FormatTime {
		base = "metav1.Time"
	}
	switch {
	case field.List:
		return "[]" + base
	case !field.Required && base != "string":
		return "*" + base
	default:
		return base
	}
}

// given is the condition under which an optional field is there.
func given(field jobschema.Field) string {
	switch kind := goType(field); {
	case field.List:
		return "len(p." + pascal(field.Name) + ") > 0"
	case kind == "string":
		return "p." + pascal(field.Name) + ` != ""`
	default:
		return "p." + pascal(field.Name) + " != nil"
	}
}

const uuidPattern = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

// markers are what kubebuilder reads about a field.
func markers(field jobschema.Field) (out []string) {
	add := func(format string, args ...any) { out = append(out, "+"+fmt.Sprintf(format, args...)) }
	add("%s", map[bool]string{true: "required", false: "optional"}[field.Required])
	items := ""
	if field.List {
		add("listType=set")
		addBounds(add, "MinItems", field.MinItems, "MaxItems", field.MaxItems)
		items = "items:"
	}
	rule := func(format string, args ...any) { add("kubebuilder:validation:"+items+format, args...) }
	switch field.Format {
	case jobschema.FormatUUID:
		// The format, or a length of 36, would keep the rule and its words from being looked at.
		rule("MaxLength=128")
		rule("XValidation:rule=`self.matches(r'%s')`,message=\"must be a UUID, 01890a5d-ac96-774b-bcce-b302099a8057 for example\"", uuidPattern)
	case jobschema.FormatURI:
		rule("Format=uri")
	}
	if field.Enum != nil {
		rule("Enum=%s", strings.Join(field.Enum, ";"))
	}
	if field.Pattern != "" {
		rule("XValidation:rule=`self.matches(r'%s')`,message=\"%s\"", strings.ReplaceAll(field.Pattern, "'", `\x27`), field.Message)
	}
	least, greatest := "MinLength", "MaxLength"
	if field.Type == jobschema.TypeInteger {
		least, greatest = "Minimum", "Maximum"
	}
	addBounds(func(format string, args ...any) {
		add(strings.Replace(format, "validation:", "validation:"+items, 1), args...)
	},
		least, field.Min, greatest, field.Max)
	return out
}

func addBounds(add func(string, ...any), least string, atLeast *int64, greatest string, atMost *int64) {
	if atLeast != nil {
		add("kubebuilder:validation:%s=%d", least, *atLeast)
	}
	if atMost != nil {
		add("kubebuilder:validation:%s=%d", greatest, *atMost)
	}
}
