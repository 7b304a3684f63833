package envfile_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/envfile"
)

func TestAShellReadsAndExportsTheFile(t *testing.T) {
	t.Parallel()
	content := envfile.Format([]envfile.Var{{Name: "ATLAS_URL", Value: `it's "here" $HOME`}})
	out, err := exec.CommandContext(t.Context(), "sh", "-c", content+"sh -c 'printf %s \"$ATLAS_URL\"'").Output()
	require.NoError(t, err)
	require.Equal(t, `it's "here" $HOME`, string(out))
}

func TestOnlyWhatTheUserSetIsGiven(t *testing.T) {
	t.Parallel()
	environment := map[string]string{"DATABASE_URL": "postgres://ours", "KAFKA_BROKERS": "ours:1"}
	content := envfile.Format([]envfile.Var{{Name: "DATABASE_URL", Value: "postgres://ours"}, {Name: "KAFKA_BROKERS", Value: "ours:1"}})
	for line := range strings.Lines(content) {
		if value, ok := strings.CutPrefix(line, envfile.Marker+"="); ok {
			environment[envfile.Marker] = strings.TrimSpace(value)
		}
	}
	getenv := func(name string) string { return environment[name] }
	require.Empty(t, envfile.Given(getenv, "DATABASE_URL"))
	require.Empty(t, envfile.Given(getenv, "ELASTICSEARCH_URL"))
	environment["KAFKA_BROKERS"] = "mine:9092"
	require.Equal(t, "mine:9092", envfile.Given(getenv, "KAFKA_BROKERS"))
	delete(environment, envfile.Marker)
	require.Equal(t, "postgres://ours", envfile.Given(getenv, "DATABASE_URL"), "nothing says that a file set it")
}
