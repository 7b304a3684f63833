// Command lint checks an OpenAPI document against a set of rules and fails when it finds anything, warnings and hints too.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/speakeasy-api/openapi/linter"
	"github.com/speakeasy-api/openapi/openapi"
	openapilinter "github.com/speakeasy-api/openapi/openapi/linter"
	"github.com/speakeasy-api/openapi/references"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: lint RULES.yaml OPENAPI.yaml")
		os.Exit(2)
	}
	found, err := lint(context.Background(), os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if found != "" {
		fmt.Println(found)
		os.Exit(1)
	}
}

// lint returns what it finds; nothing when the document is clean.
func lint(ctx context.Context, rulesFile, file string) (string, error) {
	rules, err := linter.LoadConfigFromFile(rulesFile)
	if err != nil {
		return "", fmt.Errorf("read the rules %s: %w", rulesFile, err)
	}
	content, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the specification: %w", err)
	}
	defer content.Close()
	document, invalid, err := openapi.Unmarshal(ctx, content)
	if err != nil {
		return "", fmt.Errorf("read the specification %s: %w", file, err)
	}
	l, err := openapilinter.NewLinter(rules)
	if err != nil {
		return "", fmt.Errorf("use the rules %s: %w", rulesFile, err)
	}
	// A rule that is gone, or was misspelt, would be switched off without a word.
	for _, rule := range rules.Rules {
		if !slices.Contains(l.Registry().AllRuleIDs(), rule.ID) {
			return "", fmt.Errorf("%s: there is no rule %s", rulesFile, rule.ID)
		}
	}
	out, err := l.Lint(ctx, linter.NewDocumentInfo(document, file), invalid, &linter.LintOptions{
		ResolveOptions: &references.ResolveOptions{DisableExternalRefs: true},
	})
	if err != nil {
		return "", fmt.Errorf("lint %s: %w", file, err)
	}
	if len(out.Results) == 0 {
		return "", nil
	}
	return out.FormatText(), nil
}
