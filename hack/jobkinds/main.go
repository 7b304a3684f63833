// Command jobkinds writes down, for everybody who names a job's parameters, what the kinds in internal/tasks say about them: the part of the OpenAPI
// document that is about kinds of jobs, the union of an AtlasJob's spec, and the table in docs/jobs.md. hack/generate.sh runs it at the repository's root.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobschema"
	"github.com/atlas-platform/atlas/internal/tasks"
)

// The files, from the repository's root.
const (
	specFile = "services/api/openapi.yaml"
	crdFile  = "api/v1alpha1/atlasjob_kinds.gen.go"
	docsFile = "docs/jobs.md"
)

func main() {
	files, err := generate(".", tasks.Kinds())
	if err == nil {
		for name, content := range files {
			err = errors.Join(err, os.WriteFile(name, content, 0o644))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "jobkinds:", err)
		os.Exit(1)
	}
}

// generate returns the files below root as they should be.
func generate(root string, kinds []jobs.Kind) (map[string][]byte, error) {
	described, err := jobschema.Kinds(kinds)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(described, func(a, b jobschema.Kind) int { return strings.Compare(a.Name, b.Name) })
	types, err := crd(public(described))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{crdFile: types}
	for name, section := range map[string]string{specFile: openAPI(described), docsFile: docs(described)} {
		before, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("read what is around the generated section: %w", err)
		}
		if files[name], err = replaceSection(before, section); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return files, nil
}

// public are the kinds that a client can queue.
func public(kinds []jobschema.Kind) []jobschema.Kind {
	return slices.DeleteFunc(slices.Clone(kinds), func(k jobschema.Kind) bool { return k.Internal })
}

// The section begins after the line with the one mark and ends before the line with the other.
const (
	beginMark = "BEGIN GENERATED KINDS OF JOBS"
	endMark   = "END GENERATED KINDS OF JOBS"
)

func replaceSection(content []byte, section string) ([]byte, error) {
	begin, end := bytes.Index(content, []byte(beginMark)), bytes.Index(content, []byte(endMark))
	if begin < 0 || end < begin {
		return nil, fmt.Errorf("it has no lines with %q and %q", beginMark, endMark)
	}
	begin += bytes.IndexByte(content[begin:], '\n') + 1
	end = bytes.LastIndexByte(content[:end], '\n') + 1
	return slices.Concat(content[:begin], []byte(section), content[end:]), nil
}

// pascal turns collection_id into CollectionID, and camel into collectionID.
func pascal(name string) string {
	var out strings.Builder
	for word := range strings.SplitSeq(name, "_") {
		if upper, found := initialisms[word]; found {
			out.WriteString(upper)
			continue
		}
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}

func camel(name string) string {
	first, rest, more := strings.Cut(name, "_")
	if !more {
		return first
	}
	return first + pascal(rest)
}

var initialisms = map[string]string{"id": "ID", "ids": "IDs", "url": "URL", "urls": "URLs", "uri": "URI", "api": "API", "ttl": "TTL"}

// inCamel is a text that names other fields, for those who know them as camel has them.
func inCamel(text string, fields []jobschema.Field) string {
	for _, field := range fields {
		text = strings.ReplaceAll(text, "`"+field.Name+"`", "`"+camel(field.Name)+"`")
	}
	return text
}

// enumeration is `a, b and c`.
func enumeration(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

func names(fields []jobschema.Field, as func(string) string) []string {
	out := make([]string, len(fields))
	for i, field := range fields {
		out[i] = as(field.Name)
	}
	return out
}
