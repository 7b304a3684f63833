package demo

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	minDocument = 200       // bytes; shorter files are mostly redirects
	maxDocument = 512 << 10 // bytes; the API takes 1 MiB
)

// document is one Markdown document of the corpus.
type document struct {
	collection string // the host or organisation that the document comes from
	title      string
	content    string
	tags       []string
	path       string
}

// corpusDir finds the Go module cache, whose READMEs and docs are the corpus.
func corpusDir(ctx context.Context) (string, error) {
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		return dir, nil
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output()
	if err != nil {
		return "", fmt.Errorf("find the Go module cache: %w; name a folder of Markdown files with --dir", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// readCorpus reads want Markdown documents below dir. The newest version of a module counts once, so that no document comes twice. When there
// are fewer files than wanted, long documents are cut into their sections.
func readCorpus(dir string, want int) ([]document, error) {
	var docs []document
	seen := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // an unreadable folder of a cache is no reason to stop
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == ".git" || path == filepath.Join(dir, "cache")):
			return fs.SkipDir
		case entry.IsDir() || !strings.EqualFold(filepath.Ext(path), ".md"):
			return nil
		}
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return fmt.Errorf("name %s: %w", path, err)
		}
		doc, ok := readDocument(path, filepath.ToSlash(relative))
		if ok && !seen[doc.content] {
			seen[doc.content] = true
			docs = append(docs, doc)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the documents in %s: %w", dir, err)
	}
	if len(docs) < want {
		docs = cutIntoSections(docs, want)
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("there is no Markdown document in %s: name another folder with --dir", dir)
	}
	if len(docs) > want {
		docs = spread(docs, want)
	}
	return docs, nil
}

func readDocument(path, relative string) (document, bool) {
	content, err := os.ReadFile(path)
	if err != nil || len(content) < minDocument || len(content) > maxDocument || !utf8.Valid(content) || slices.Contains(content, 0) {
		return document{}, false
	}
	module, file := splitModule(relative)
	doc := document{
		collection: collectionOf(module),
		title:      titleOf(string(content), module, file),
		content:    string(content),
		path:       relative,
		tags:       []string{truncate(module, 100), kindOf(file)},
	}
	return doc, true
}

// splitModule cuts a path in the module cache into the module's path, without version, and the file's path inside it.
func splitModule(relative string) (module, file string) {
	before, after, versioned := strings.Cut(relative, "@")
	if !versioned {
		dir, name := filepath.Split(relative)
		return strings.TrimSuffix(dir, "/"), name
	}
	_, file, _ = strings.Cut(after, "/")
	return unescape(before), file
}

// unescape undoes the module cache's case encoding: "!i!b!m" is "IBM".
func unescape(path string) string {
	parts := strings.Split(path, "!")
	for i, part := range parts[1:] {
		if part != "" {
			parts[i+1] = strings.ToUpper(part[:1]) + part[1:]
		}
	}
	return strings.Join(parts, "")
}

// collectionOf groups modules into the few collections that a person would make.
func collectionOf(module string) string {
	host, rest, _ := strings.Cut(module, "/")
	switch owner, _, _ := strings.Cut(rest, "/"); {
	case strings.HasSuffix(host, "k8s.io") || owner == "kubernetes":
		return "Kubernetes"
	case strings.HasPrefix(host, "go.opentelemetry.io") || owner == "prometheus":
		return "Observability"
	case strings.HasPrefix(host, "golang.org") || owner == "golang" || owner == "google":
		return "Go and Google"
	case host == "github.com":
		return "GitHub"
	default:
		return "Elsewhere"
	}
}

func kindOf(file string) string {
	name := strings.ToLower(filepath.Base(file))
	switch {
	case strings.HasPrefix(name, "readme"):
		return "readme"
	case strings.HasPrefix(name, "change"), strings.HasPrefix(name, "release"):
		return "changelog"
	case strings.HasPrefix(name, "contributing"), strings.HasPrefix(name, "code_of_conduct"), strings.HasPrefix(name, "code-of-conduct"):
		return "community"
	default:
		return "docs"
	}
}

// titleOf is the first heading, or the file's name where there is none.
func titleOf(content, module, file string) string {
	for line := range strings.Lines(content) {
		if heading, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok {
			if heading = strings.TrimSpace(strings.Trim(heading, "#` ")); heading != "" {
				return truncate(heading, 500)
			}
		}
	}
	return truncate(module+"/"+file, 500)
}

// cutIntoSections replaces long documents by their second-level sections until there are enough.
func cutIntoSections(docs []document, want int) []document {
	var out []document
	for i, doc := range docs {
		sections := strings.Split(doc.content, "\n## ")
		if len(out)+len(docs)-i >= want || len(sections) < 2 {
			out = append(out, doc)
			continue
		}
		for n, section := range sections {
			part := doc
			if n > 0 {
				heading, _, _ := strings.Cut(section, "\n")
				part.title = truncate(doc.title+": "+strings.TrimSpace(heading), 500)
				section = "## " + section
			}
			if len(section) >= minDocument {
				part.content = section
				out = append(out, part)
			}
		}
	}
	return out
}

// spread picks want documents evenly over all, so that every collection has some.
func spread(docs []document, want int) []document {
	out := make([]document, 0, want)
	for i := range want {
		out = append(out, docs[i*len(docs)/want])
	}
	return out
}

// truncate cuts s to at most limit bytes, at a rune's boundary.
func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
