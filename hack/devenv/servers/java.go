package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// oldestJava is the oldest Java that Kafka 4 and Elasticsearch 8 run on.
const oldestJava = 17

const javaPackage = "openjdk-17-jre-headless"

// findJava returns a Java runtime's program, installing one when that is possible.
func findJava(ctx context.Context, p *process.Progress) (string, error) {
	java, problem := newestJava(ctx)
	if problem == nil {
		return java, nil
	}
	// Known to be missing by its version, not by its name, so it is asked for by a path that only the package brings.
	if err := process.EnsurePackages(ctx, p, map[string]string{"/usr/lib/jvm/java-17-openjdk-" + runtime.GOARCH + "/bin/java": javaPackage}); err != nil {
		return "", fmt.Errorf("%w: %w", problem, err)
	}
	return newestJava(ctx)
}

// newestJava returns the first Java that is new enough: the user's choice, PATH's, then installed ones.
func newestJava(ctx context.Context) (string, error) {
	var candidates []string
	if home := os.Getenv("JAVA_HOME"); home != "" {
		candidates = append(candidates, filepath.Join(home, "bin", "java"))
	}
	if path, err := exec.LookPath("java"); err == nil {
		candidates = append(candidates, path)
	}
	for _, pattern := range []string{"/usr/lib/jvm/*/bin/java", "/opt/homebrew/opt/openjdk*/bin/java", "/usr/local/opt/openjdk*/bin/java"} {
		matches, _ := filepath.Glob(pattern)
		candidates = append(candidates, matches...)
	}
	found := "none is installed"
	for _, java := range candidates {
		version, err := javaVersion(ctx, java)
		if err != nil {
			continue
		}
		if version >= oldestJava {
			return filepath.EvalSymlinks(java)
		}
		found = fmt.Sprintf("%s is version %d", java, version)
	}
	return "", fmt.Errorf("without containers, Kafka and Elasticsearch need Java %d or newer; %s", oldestJava, found)
}

var javaVersionLine = regexp.MustCompile(`version "(\d+)`)

func javaVersion(ctx context.Context, java string) (int, error) {
	out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", java, err)
	}
	match := javaVersionLine.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("ask %s for its version: unexpected answer", java)
	}
	return strconv.Atoi(string(match[1]))
}
