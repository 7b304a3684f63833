package postgres_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/postgres"
)

// TestAnUnusableURLIsToldInWords, and never with a part of it.
func TestAnUnusableURLIsToldInWords(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://atlas:SECRET@db:99999999/atlas":                             "parse DATABASE_URL: it has a port that is not between 1 and 65535",
		"postgres://atlas:SECRET@db/atlas?sslmode=on":                           "parse DATABASE_URL: it has a parameter sslmode",
		"postgres://atlas:SECRET@db/atlas?sslrootcert=/not/there":               "parse DATABASE_URL: it has a parameter that can't be used: check those after the ?",
		"postgres://atlas:SECRET@db/atlas?sslcert=/not/there&sslkey=/not/there": "check those after the ?",
	} {
		_, err := postgres.Open(t.Context(), url, 1)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "SECRET")
		err = postgres.Migrate(t.Context(), url, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "SECRET")
	}
}
