package pguri_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/pguri"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"postgres://atlas:secret@db:5432/atlas", "postgresql://atlas@db/atlas?sslmode=require", "postgres://db/atlas", "postgres://a:b%40c%2Fd@[::1]:5432/x",
	} {
		require.NoError(t, pguri.Check(good), good)
		_, err := pgconn.ParseConfig(good)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{
		"postgres://atlas:hunter2@SECRET@db:5432/atlas", "postgres://f1?SECRET@db/atlas", "postgres://atlas:a/SECRET@db/atlas", "postgres://atlas:a#SECRET@db/atlas",
		"mysql://atlas:SECRET@db/atlas", "postgres://atlas:SECRET@/atlas", "postgres://db/atlas?user=atlas&password=SECRET", "host=db password=SECRET", "postgres://atlas:SEC%zzRET@db/atlas",
		"postgres://atlas:SECRET@db/atlas\n",
	} {
		err := pguri.Check(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "SEC", bad)
	}
}

// TestCheckFindsWhatCanNotBeConnectedWith, and that alone.
func TestCheckFindsWhatCanNotBeConnectedWith(t *testing.T) {
	t.Parallel()
	const host = "postgres://atlas:SECRET@db"
	for uri, want := range map[string]string{
		host + ":99999999/atlas":                    "has a port that is not between 1 and 65535",
		host + ":65536/atlas":                       "has a port",
		host + ":0/atlas":                           "has a port",
		host + ":1,db2:70000/atlas":                 "has a port",
		host + "/atlas?sslmode=on":                  "has a parameter sslmode that is none of disable, allow",
		host + "/atlas?sslmode=":                    "",
		host + "/atlas?target_session_attrs=leader": "has a parameter target_session_attrs",
		host + "/atlas?connect_timeout=soon":        "has a parameter connect_timeout",
		host + "/atlas?connect_timeout=-1":          "has a parameter connect_timeout",
		host + "/atlas?connect_timeout=10":          "",
		host + "/atlas?sslmode=verify-full":         "",
		host + ":65535/atlas":                       "",
		host + ":5432,db2:5433/atlas":               "",
		host + "/atlas?application_name=x":          "",
		host + "/atlas?target_session_attrs=any":    "",
	} {
		err := pguri.Check(uri)
		_, parseErr := pgconn.ParseConfig(uri)
		if want == "" {
			require.NoError(t, parseErr, uri)
			require.NoError(t, err, uri)
			continue
		}
		require.Error(t, parseErr, uri)
		require.ErrorContains(t, err, want, uri)
		require.NotContains(t, err.Error(), "SECRET")
	}
}

// FuzzCheck: what passes is read by the connecting side with the same host and password, so that neither is taken for the other.
func FuzzCheck(f *testing.F) {
	f.Add("postgres://atlas:secret@db:5432/atlas")
	f.Add("postgres://a:b@c@d/e?f@g")
	f.Fuzz(func(t *testing.T, uri string) {
		if pguri.Check(uri) != nil {
			return
		}
		if config, err := pgconn.ParseConfig(uri); err == nil {
			require.NotContains(t, config.Host, "@")
			require.NotContains(t, config.User, "@")
		}
	})
}
