package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
)

// The fields of an environment variable, and of a header of a probe.
const (
	entryName  = "name"
	entryValue = "value"
)

// urls are those that may have a password.
var urls = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+@[^\s"'<>]+`) //nolint:gochecknoglobals // compiled once

// generic makes an object out of what JSON knows, numbers as they were written.
func generic(value any) (any, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("write as JSON: %w", err)
	}
	return parse(content)
}

func parse(content []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var out any
	if err := decoder.Decode(&out); err != nil {
		return nil, fmt.Errorf("read as JSON: %w", err)
	}
	return out, nil
}

// embedded is the object that a string is: the last applied configuration in an annotation for example.
func embedded(text string) (any, bool) {
	if text == "" || (text[0] != '{' && text[0] != '[') || !json.Valid([]byte(text)) {
		return nil, false
	}
	out, err := parse([]byte(text))
	return out, err == nil
}

// knowObject learns the secrets that an object has in plain text: variables that are named like one, and passwords of URLs.
func (r *redactor) knowObject(value any) {
	switch value := value.(type) {
	case map[string]any:
		if name, secret, ok := entry(value); ok && named(name) {
			r.know(name, []byte(secret))
		}
		for _, field := range value {
			r.knowObject(field)
		}
	case []any:
		for _, item := range value {
			r.knowObject(item)
		}
	case string:
		if object, ok := embedded(value); ok {
			r.knowObject(object)
			return
		}
		for _, found := range urls.FindAllString(value, -1) {
			if u, err := url.Parse(found); err == nil && u.User != nil {
				if password, ok := u.User.Password(); ok {
					r.know("password", []byte(password))
				}
			}
		}
	}
}

// entry is the name and the value of an environment variable.
func entry(object map[string]any) (name, value string, ok bool) {
	name, named := object[entryName].(string)
	value, valued := object[entryValue].(string)
	return name, value, named && valued
}

// object is an object without secrets. It looks at every string by itself: written as YAML, one may be quoted or broken into lines.
func (r *redactor) object(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := maps.Clone(value)
		for key, field := range out {
			out[key] = r.object(field)
		}
		if name, secret, ok := entry(value); ok && named(name) && !harmless.MatchString(secret) {
			out[entryValue] = redacted
		}
		return out
	case []any:
		out := slices.Clone(value)
		for i := range out {
			out[i] = r.object(out[i])
		}
		return out
	case string:
		if object, ok := embedded(value); ok {
			if content, err := json.Marshal(r.object(object)); err == nil {
				return string(content)
			}
		}
		return string(r.redact([]byte(value)))
	default:
		return value
	}
}
