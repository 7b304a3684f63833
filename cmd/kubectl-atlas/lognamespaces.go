package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// trace is a line of a crash: what Go writes of goroutines, without the values of anything.
var trace = regexp.MustCompile(`^(?:|panic: .*|fatal error: .*|\[signal .*|goroutine \d+ \[.*\]:|created by .*|exit status \d+|\t.*\.(?:go|s):\d+.*|[\w./*()\[\]{}…-]+\([\w., ?{}-]*\))$`) //nolint:gochecknoglobals // compiled once

// mentions are where a text names a namespace: a field of an object that was written with %v or as JSON, a path of the API server, an account, an object
// with its namespace, and a sentence.
var mentions = []*regexp.Regexp{ //nolint:gochecknoglobals // compiled once
	regexp.MustCompile(`(?i)namespaces?[\\"']*\s*[:=]\s*[\\"'\[]*([a-z0-9][a-z0-9-]*)`),
	regexp.MustCompile(`(?i)namespaces?\s+[\\"']+([a-z0-9][a-z0-9-]*)`),
	regexp.MustCompile(`(?i)\b(?:in|the|of) namespaces? ([a-z0-9][a-z0-9-]*)`),
	regexp.MustCompile(`/namespaces/([a-z0-9][a-z0-9-]*)`),
	regexp.MustCompile(`system:serviceaccounts?:([a-z0-9][a-z0-9-]*)`),
	regexp.MustCompile(`(?i)\b(?:atlas[a-z]+|lease|lock|key|pod|secret|configmap|service|serviceaccount|deployment|replicaset|job|event|ingress|object)s?[\\"':= ]+([a-z0-9][a-z0-9-]*)/[a-z0-9]`),
}

// service is the namespace in the name of a Service.
var service = regexp.MustCompile(`\.([a-z0-9][a-z0-9-]*)\.svc\b`) //nolint:gochecknoglobals // compiled once

// servicePrefix is before the namespaces of namespacesOf that only the name of a Service names: a stack may use what is in another namespace.
const servicePrefix = "."

// servicesIn are the namespaces of the Services that a text names.
func servicesIn(text []byte) (names []string) {
	for _, found := range service.FindAllSubmatch(text, -1) {
		names = append(names, string(found[1]))
	}
	return names
}

// dump is an object that was written with %v. Where its namespace is can't be told unless it is written with the fields' names.
var dump = regexp.MustCompile(`&[\w.]*\{|ObjectMeta|\{\{`) //nolint:gochecknoglobals // compiled once

// unknown stands for a namespace that can't be told; no namespace is named so.
const unknown = "?"

// filler are words that follow on "in namespace" without being its name.
func filler(word string) bool {
	return slices.Contains([]string{"of", "that", "which", "is", "are", "and", "or", "to", "for", "has", "have", "does", "was", "were", "with", "it", "where", "when", "as", "by"}, word)
}

// namespacesOf are the namespaces that a line of the operator's log names. It is not told when the line is neither one of the operator's logger nor one of a crash: a part of a line
// for example.
func namespacesOf(line []byte) (names []string, told bool) {
	line = bytes.TrimRight(line, "\r\n")
	value, err := parse(line)
	if object, ok := value.(map[string]any); err == nil && ok && len(object) > 0 {
		namespacesIn(object, &names)
		return names, true
	}
	namespacesInText(string(line), &names)
	return names, trace.Match(line)
}

func namespacesIn(value any, names *[]string) {
	switch value := value.(type) {
	case map[string]any:
		for key, field := range value {
			switch strings.ToLower(key) {
			case "namespace", "namespaces", "ns":
				namespaceField(field, names)
			case "key", "object", "obj", "request", "lock", "name":
				if text, ok := field.(string); ok {
					if namespace, _, found := strings.Cut(text, "/"); found && namespace != "" {
						*names = append(*names, namespace)
					}
				}
			}
			namespacesIn(field, names)
		}
	case []any:
		for _, item := range value {
			namespacesIn(item, names)
		}
	case string:
		if object, ok := embedded(value); ok {
			namespacesIn(object, names)
		}
		namespacesInText(value, names)
	}
}

// namespaceField is a field that is a namespace's name, several of them, or the object.
func namespaceField(value any, names *[]string) {
	switch value := value.(type) {
	case string:
		if value != "" {
			*names = append(*names, value)
		}
	case []any:
		for _, item := range value {
			namespaceField(item, names)
		}
	case map[string]any:
		namespaceField(value[entryName], names)
	}
}

func namespacesInText(text string, names *[]string) {
	before := len(*names)
	for _, mention := range mentions {
		for _, found := range mention.FindAllStringSubmatch(text, -1) {
			if !filler(found[1]) {
				*names = append(*names, found[1])
			}
		}
	}
	for _, name := range servicesIn([]byte(text)) {
		*names = append(*names, servicePrefix+name)
	}
	if len(*names) == before && dump.MatchString(text) {
		*names = append(*names, unknown)
	}
}
