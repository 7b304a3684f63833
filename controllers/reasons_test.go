// Package controllers_test compares documents with the controllers that they tell of.
package controllers_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocumentedReasonsAreThoseOfTheCode compares the tables of docs/jobs.md with the constants that the controllers give as reasons, and with the
// types of the Kubernetes Events that have them.
func TestDocumentedReasonsAreThoseOfTheCode(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("..", "docs", "jobs.md"))
	require.NoError(t, err)
	shared := reasons(t, filepath.Join("..", "api", "v1alpha1"), "Reason")
	for kind, dir := range map[string]string{"ATLASJOBS": "atlasjob", "ATLASSCHEDULES": "atlasschedule"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			_, table, found := strings.Cut(string(content), "<!-- BEGIN REASONS OF "+kind+" -->")
			require.True(t, found)
			table, _, found = strings.Cut(table, "<!-- END REASONS OF "+kind+" -->")
			require.True(t, found)
			documented, told := map[string]bool{}, map[string]string{}
			for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|([^|]*)\\|([^|]*)\\|").FindAllStringSubmatch(table, -1) {
				require.False(t, documented[row[1]], "%s is there twice", row[1])
				documented[row[1]] = true
				if kind := strings.TrimSpace(row[3]); kind != "" {
					told[row[1]] = kind
				}
			}
			c := read(t, dir, shared)
			require.Equal(t, c.given, documented)
			for reason, kinds := range c.events {
				require.True(t, kinds[told[reason]], "the Event %s is %q in the table and %v in the code", reason, told[reason], kinds)
			}
			require.Len(t, c.events, len(told), "%v", told)
		})
	}
}

// TestDocumentedReasonsOfStacks compares the table of docs/operator.md with the reasons that the code of AtlasStacks gives.
func TestDocumentedReasonsOfStacks(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("..", "docs", "operator.md"))
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(content), "<!-- BEGIN REASONS OF ATLASSTACKS -->")
	table, _, found := strings.Cut(table, "<!-- END REASONS OF ATLASSTACKS -->")
	require.True(t, found)
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|").FindAllStringSubmatch(table, -1) {
		for reason := range strings.FieldsSeq(row[1]) {
			require.False(t, documented[reason], "%s is there twice", reason)
			documented[strings.Trim(reason, "`")] = true
		}
	}
	shared, given := reasons(t, filepath.Join("..", "api", "v1alpha1"), "Reason"), map[string]bool{}
	for _, dir := range []string{"atlasstack", "apply", "topic", "template"} {
		for reason := range read(t, dir, shared).given {
			given[reason] = true
		}
	}
	require.Equal(t, given, documented)
}

// code is what a controller's source says.
type code struct {
	given  map[string]bool            // the reasons
	events map[string]map[string]bool // the types of the Events with them
}

func read(t *testing.T, dir string, shared map[string]string) code {
	t.Helper()
	known, out := reasons(t, dir, "reason"), code{map[string]bool{}, map[string]map[string]bool{}}
	for _, reason := range known {
		out.given[reason] = true
	}
	value := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.Ident:
			return known[e.Name]
		case *ast.SelectorExpr:
			return shared[e.Sel.Name]
		default:
			return ""
		}
	}
	tells := func(reason string, kinds ...ast.Expr) {
		for _, kind := range kinds {
			if kind, ok := kind.(*ast.SelectorExpr); ok && reason != "" {
				if out.events[reason] == nil {
					out.events[reason] = map[string]bool{}
				}
				out.events[reason][strings.TrimPrefix(kind.Sel.Name, "EventType")] = true
			}
		}
	}
	warning := &ast.SelectorExpr{Sel: ast.NewIdent("EventTypeWarning")}
	each(t, dir, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if reason := value(n); reason != "" {
				out.given[reason] = true
			}
		case *ast.FuncDecl:
			if n.Name.Name != "eventType" {
				return
			}
			ast.Inspect(n, func(n ast.Node) bool {
				if clause, ok := n.(*ast.CaseClause); ok {
					for _, reason := range clause.List {
						tells(value(reason), returned(clause)...)
					}
				}
				return true
			})
		case *ast.CallExpr:
			method, ok := n.Fun.(*ast.SelectorExpr)
			switch {
			case ok && method.Sel.Name == "warn":
				tells(value(n.Args[1]), warning)
			case ok && method.Sel.Name == "event":
				tells(value(n.Args[2]), n.Args[1])
			}
		}
	})
	return out
}

// returned are the first results of a clause's return statements.
func returned(clause *ast.CaseClause) (out []ast.Expr) {
	ast.Inspect(clause, func(n ast.Node) bool {
		if statement, ok := n.(*ast.ReturnStmt); ok {
			out = append(out, statement.Results[0])
		}
		return true
	})
	return out
}

// reasons are a package's string constants with a prefix.
func reasons(t *testing.T, dir, prefix string) map[string]string {
	t.Helper()
	out := map[string]string{}
	each(t, dir, func(n ast.Node) {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			text, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			out[spec.Names[0].Name] = text
		}
	})
	return out
}

// each visits what is in a package's files but its tests.
func each(t *testing.T, dir string, visit func(ast.Node)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if n != nil {
				visit(n)
			}
			return true
		})
	}
}
