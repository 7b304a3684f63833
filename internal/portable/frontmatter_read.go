package portable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"github.com/atlas-platform/atlas/internal/jsontext"
)

// jsonNumber is what stays a number. Whatever else YAML takes for one (0x10, 1_000, .5, 007, .inf) stays the text that it is.
var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// splitFrontMatter cuts a file into front matter and content. Without front matter everything is content.
func splitFrontMatter(file []byte) (front, content []byte) {
	rest := bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))
	first, after, found := bytes.Cut(rest, []byte("\n"))
	if !found || string(bytes.TrimRight(first, " \t\r")) != fence {
		return nil, rest
	}
	for at := 0; at < len(after); {
		line, end := after[at:], len(after)
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line, end = line[:i], at+i+1
		}
		if string(bytes.TrimRight(line, " \t\r")) == fence {
			return after[:at], after[end:]
		}
		at = end
	}
	return nil, rest
}

// frontMatter collects the fields of an item from YAML.
type frontMatter struct {
	object
	// extra are the keys that are no fields of an item.
	extra map[string]any
}

// parseFrontMatter returns nil for YAML that is no mapping: then it is content between two horizontal rules.
func parseFrontMatter(front []byte) *frontMatter {
	f := &frontMatter{object: object{fields: make(map[string]any)}, extra: make(map[string]any)}
	if len(front) > MaxFrontMatter {
		f.fail("", fmt.Sprintf("has more than %d bytes of front matter", MaxFrontMatter))
		return f
	}
	var document yaml.Node
	if err := yaml.Unmarshal(front, &document); err != nil {
		f.fail("", "has front matter that is not YAML: "+err.Error())
		return f
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode || len(document.Content[0].Content) == 0 {
		return nil
	}
	content := document.Content[0].Content
	for i := 0; i+1 < len(content); i += 2 {
		key, ok := f.key("", content[i])
		if !ok {
			continue
		}
		f.field(key, content[i+1])
	}
	f.merge()
	return f
}

// field takes one key of the front matter. Other tools' files are read generously, and nothing of them is dropped.
func (f *frontMatter) field(key string, node *yaml.Node) {
	pointer := "/" + jsontext.EscapePointer(key)
	_, twice := f.fields[key]
	if _, extra := f.extra[key]; twice || extra {
		f.fail(pointer, "is there twice")
		return
	}
	switch {
	case key == "id" && !isUUID(node), !known(key), key == "content":
		f.extra[key] = f.value(pointer, node, 1)
	case isNull(node) && key != "id":
		// As if it were not there.
	case key == "tags" && node.Kind == yaml.ScalarNode:
		f.fields[key] = splitTags(node.Value)
	case key == "tags" && node.Kind == yaml.SequenceNode:
		f.fields[key] = f.texts(pointer, node)
	case key == "created_at" || key == "updated_at":
		f.fields[key] = looseTime(node.Value)
	case key != "metadata" && node.Kind == yaml.ScalarNode:
		f.fields[key] = node.Value
	default:
		f.fields[key] = f.value(pointer, node, 1) // the wrong type is reported where it is used
	}
}

// merge puts unknown keys into the metadata.
func (f *frontMatter) merge() {
	if len(f.extra) == 0 {
		return
	}
	metadata, ok := f.fields["metadata"].(map[string]any)
	if !ok {
		if f.fields["metadata"] != nil {
			return // wrong already
		}
		metadata = make(map[string]any, len(f.extra))
		f.fields["metadata"] = metadata
	}
	for key, value := range f.extra {
		if _, twice := metadata[key]; twice {
			f.fail("/"+jsontext.EscapePointer(key), "is in metadata too")
			continue
		}
		metadata[key] = value
	}
}

// value turns YAML into the values of JSON.
func (f *frontMatter) value(pointer string, node *yaml.Node, depth int) any {
	if depth > maxDepth {
		f.fail(pointer, "is nested too deeply")
		return nil
	}
	switch node.Kind {
	case yaml.ScalarNode:
		return scalar(node)
	case yaml.SequenceNode:
		list := make([]any, len(node.Content))
		for i, element := range node.Content {
			list[i] = f.value(fmt.Sprintf("%s/%d", pointer, i), element, depth+1)
		}
		return list
	case yaml.MappingNode:
		object := make(map[string]any, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, ok := f.key(pointer, node.Content[i])
			if !ok {
				continue
			}
			below := pointer + "/" + jsontext.EscapePointer(key)
			if _, twice := object[key]; twice {
				f.fail(below, "is there twice")
				continue
			}
			object[key] = f.value(below, node.Content[i+1], depth+1)
		}
		return object
	case yaml.AliasNode, yaml.DocumentNode:
	}
	f.fail(pointer, "must not be an alias")
	return nil
}

func (f *frontMatter) key(pointer string, node *yaml.Node) (string, bool) {
	if node.Kind != yaml.ScalarNode {
		f.fail(pointer, "has a key that is not text")
		return "", false
	}
	return node.Value, true
}

// texts are a list's elements, every scalar as the text that it is: `- 2026` is the tag "2026".
func (f *frontMatter) texts(pointer string, node *yaml.Node) []any {
	list := make([]any, len(node.Content))
	for i, element := range node.Content {
		if element.Kind == yaml.ScalarNode {
			list[i] = element.Value
			continue
		}
		list[i] = f.value(fmt.Sprintf("%s/%d", pointer, i), element, 1)
	}
	return list
}

func quoted(node *yaml.Node) bool {
	const styles = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return node.Style&styles != 0 || (node.Style&yaml.TaggedStyle != 0 && node.ShortTag() == "!!str")
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && !quoted(node) && node.ShortTag() == "!!null"
}

func isUUID(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && len(node.Value) == 36 && uuid.Validate(node.Value) == nil
}

func scalar(node *yaml.Node) any {
	switch {
	case quoted(node):
		return node.Value
	case isNull(node):
		return nil
	case jsonNumber.MatchString(node.Value):
		return json.Number(node.Value)
	case node.ShortTag() == "!!bool":
		return strings.EqualFold(node.Value, "true")
	default:
		return node.Value
	}
}

// splitTags reads the tags of tools that write them on one line, with commas.
func splitTags(text string) []any {
	tags := []any{}
	for tag := range strings.SplitSeq(text, ",") {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

// looseTime turns what YAML allows for a time into RFC 3339, in UTC where there is no zone. Anything else stays, and is refused as a time.
func looseTime(text string) string {
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Format(time.RFC3339Nano)
		}
	}
	return text
}
