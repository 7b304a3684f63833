// Package config reads a role's configuration from environment variables. Every wrong or missing variable is named in one error, so that
// one look mends them all.
package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/caarlos0/env/v11"
)

// Validator is implemented by configuration structs that check more than presence and type. Each error starts with its variable's name and
// never contains a secret.
type Validator interface {
	Validate() []error
}

// Error lists everything that is wrong with the environment.
type Error struct {
	Problems []string
}

func (e *Error) Error() string {
	return "the configuration is not usable:\n  - " + strings.Join(e.Problems, "\n  - ")
}

// Load reads T from the process's environment. T is a struct of `env`-tagged fields and of blocks of such fields.
func Load[T any]() (T, error) {
	return LoadFrom[T](env.ToMap(os.Environ()))
}

// LoadFrom reads T from the given variables: for tests, and for composing roles in one process.
func LoadFrom[T any](environment map[string]string) (T, error) {
	var cfg T
	l := loader{environment: environment}
	l.load(reflect.ValueOf(&cfg).Elem())
	if len(l.problems) > 0 {
		return cfg, &Error{Problems: l.problems}
	}
	return cfg, nil
}

type loader struct {
	environment map[string]string
	problems    []string
}

func (l *loader) load(structure reflect.Value) {
	for i := range structure.NumField() {
		field := structure.Type().Field(i)
		switch {
		case field.Tag.Get("env") != "":
			l.loadField(structure.Field(i), field)
		case field.Type.Kind() == reflect.Struct && field.IsExported():
			l.load(structure.Field(i))
		}
	}
	validator, ok := structure.Addr().Interface().(Validator)
	if !ok {
		return
	}
	named := make(map[string]bool, len(l.problems))
	for _, problem := range l.problems {
		named[variable(problem)] = true
	}
	for _, err := range validator.Validate() {
		if problem := err.Error(); !named[variable(problem)] { // a variable that could not be read is not judged
			l.problems = append(l.problems, problem)
		}
	}
}

// variable is the name that a problem starts with.
func variable(problem string) string {
	end := strings.IndexFunc(problem, func(r rune) bool { return r != '_' && !unicode.IsUpper(r) && !unicode.IsDigit(r) })
	if end < 0 {
		return problem
	}
	return problem[:end]
}

// loadField parses one variable in a struct of its own: the library's parse error names the Go field, which would not tell the variable.
func (l *loader) loadField(value reflect.Value, field reflect.StructField) {
	name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
	single := reflect.New(reflect.StructOf([]reflect.StructField{field}))
	err := env.ParseWithOptions(single.Interface(), env.Options{Environment: l.environment})
	if err == nil {
		value.Set(single.Elem().Field(0))
		if list, ok := value.Interface().([]string); ok {
			for i := range list {
				list[i] = strings.TrimSpace(list[i]) // "a:1, b:2"
			}
		}
		return
	}
	var missing env.VarIsNotSetError
	var empty env.EmptyVarError
	switch {
	case errors.As(err, &missing):
		l.problems = append(l.problems, name+" is required and not set")
	case errors.As(err, &empty):
		l.problems = append(l.problems, name+" is required and empty")
	default:
		l.problems = append(l.problems, fmt.Sprintf("%s=%q is not a valid %s", name, l.environment[name], typeName(field.Type)))
	}
}

func typeName(t reflect.Type) string {
	switch t.String() {
	case "time.Duration":
		return "duration, such as 30s or 15m"
	case "bool":
		return "boolean: true or false"
	}
	if strings.HasPrefix(t.Kind().String(), "int") {
		return "whole number"
	}
	return t.String()
}

// Usage describes the variables of T as a table, for --help.
func Usage[T any]() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	usage(w, reflect.TypeFor[T]())
	w.Flush() //nolint:errcheck // a strings.Builder does not fail
	return out.String()
}

func usage(w *tabwriter.Writer, structure reflect.Type) {
	for i := range structure.NumField() {
		field := structure.Field(i)
		tag := field.Tag.Get("env")
		if tag == "" {
			if field.Type.Kind() == reflect.Struct {
				usage(w, field.Type)
			}
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		fallback := field.Tag.Get("envDefault")
		switch {
		case strings.Contains(options, "notEmpty") || strings.Contains(options, "required"):
			fallback = "required"
		case fallback == "":
			fallback = "-"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", name, fallback, field.Tag.Get("help"))
	}
}
