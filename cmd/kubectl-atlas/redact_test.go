package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedact(t *testing.T) {
	t.Parallel()
	var r redactor
	r.know("url", []byte("postgres://atlas:p4ss word@db:5432/atlas"))
	r.know("a", []byte("hunter2hunter2"))
	r.know("b", []byte("hunter2hunter2-longer"))
	r.know("size", []byte("short"))
	r.know("password", []byte("pw12"))
	r.know("API_TOKEN", []byte("x\"y<z"))
	r.know("pass", []byte("abc"))
	r.know("secretEnabled", []byte("true"))
	r.know("url", []byte("amqp://u:s3cr@mq"))
	for in, want := range map[string]string{
		"dial hunter2hunter2-longer now":                               "dial [redacted] now",
		"dial hunter2hunter2 now":                                      "dial [redacted] now",
		"in base64 aHVudGVyMmh1bnRlcjI= it is":                         "in base64 [redacted] it is",
		"connect to postgres://atlas:other@db:5432/atlas":              "connect to postgres://atlas:[redacted]@db:5432/atlas",
		`{"password":"geheim12","user":"ada"}`:                         `{"password":"[redacted]","user":"ada"}`,
		"Authorization: Bearer abc.def":                                "Authorization: Bearer [redacted]",
		"with eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxMjM0In0.c2ln ok":        "with [redacted] ok",
		"token atlas_pat_0123456789abcdef is":                          "token [redacted] is",
		"-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----": "-----BEGIN PRIVATE KEY-----[redacted]-----END PRIVATE KEY-----",
		"secret:\n  defaultMode: 288\n":                                "secret:\n  defaultMode: 288\n",
		"short, and true":                                              "short, and true",
		"said pw12, pw12 pw12 and \"pw12\"; not pw123 or 1pw12":        "said [redacted], [redacted] [redacted] and \"[redacted]\"; not pw123 or 1pw12",
		"in base64 cHcxMg== it is":                                     "in base64 [redacted] it is",
		"said x\"y<z":                                                  "said [redacted]",
		`{"said":"x\"y\u003cz"}`:                                       `{"said":"[redacted]"}`,
		"login u failed with s3cr":                                     "login u failed with [redacted]",
		"abc alone is too short":                                       "abc alone is too short",
		"a short text about atlas and its tokens":                      "a short text about atlas and its tokens",
	} {
		require.Equal(t, want, string(r.redact([]byte(in))))
	}
}

func TestParseMetrics(t *testing.T) {
	t.Parallel()
	values, err := parseMetrics([]byte("# TYPE atlas_consumer_lag_messages gauge\n" +
		"atlas_consumer_lag_messages{partition=\"0\"} 2\natlas_consumer_lag_messages{partition=\"1\"} 3\n# TYPE other counter\nother 7\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"atlas_consumer_lag_messages": 5}, values)
	_, err = parseMetrics([]byte("<html>"))
	require.Error(t, err)
	require.Equal(t, "  messages behind: 5", role{Metrics: values}.ahead())
}

func TestNamesOfSecrets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"MY_PASSWORD", "PGPASS", "DB_PASSWD", "DB_PW", "CLIENT_SECRET", "apiToken", "API_KEY", "APIKEY", "SIGNING_KEY", "AWS_ACCESS_KEY_ID", "GOOGLE_CREDENTIALS", "SENTRY_DSN", "REDIS_AUTH", "Authorization",
		"SLACK_WEBHOOK_URL", "DB_CONNECTION_STRING", "password", "signing-key.pem",
	} {
		require.True(t, named(name), name)
	}
	for _, name := range []string{"LOG_LEVEL", "KEYCLOAK_HOST", "JWT_SIGNING_KEY_FILE", "KAFKA_OAUTH_TOKEN_URL", "TOKEN_TTL", "SECRET_NAME", "PASSENGER_COUNT", "HTTPS_PROXY", "DATABASE_MAX_CONNS", "COMPOSE"} {
		require.False(t, named(name), name)
	}
}

// TestRedactObject: what is plain in one object is taken out of it, and out of all the others.
func TestRedactObject(t *testing.T) {
	t.Parallel()
	variable := func(name, value string) map[string]any { return map[string]any{"name": name, "value": value} }
	stack := map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{
			"kubectl.kubernetes.io/last-applied-configuration": `{"spec":{"env":[{"name":"MY_PIN_TOKEN","value":"a1"},{"name":"OTHER_TOKEN","value":"applied-before"}],"replicas":10000000}}`,
		}},
		"spec": map[string]any{"podTemplate": map[string]any{"env": []any{
			variable("MY_PASSWORD", "literalpw99"), variable("SHORT_KEY", "k3y"), variable("LOG_LEVEL", "debug"), variable("USE_TOKEN", "true"), variable("MY_SECRET", "$(MY_PASSWORD)"),
			variable("UPSTREAM", "https://me:up5tr@upstream.example/x"), variable("LONG_SECRET", strings.Repeat("a long text ", 20)+"\nof \"lines\""),
		}}},
	}
	var r redactor
	r.knowObject(stack)
	content, err := json.Marshal(r.object(stack))
	require.NoError(t, err)
	for _, secret := range []string{"literalpw99", "k3y", "applied-before", "up5tr", "a long text", "a1", "lines"} {
		require.NotContains(t, string(content), secret)
	}
	for _, kept := range []string{`"debug"`, `"true"`, `"$(MY_PASSWORD)"`, "MY_PASSWORD", "upstream.example/x", "10000000", "last-applied-configuration"} {
		require.Contains(t, string(content), kept)
	}
	require.Equal(t, "literalpw99", stack["spec"].(map[string]any)["podTemplate"].(map[string]any)["env"].([]any)[0].(map[string]any)["value"], "the object itself stays")
	require.Equal(t, "login failed with [redacted] at [redacted]", string(r.redact([]byte("login failed with literalpw99 at up5tr"))))
}
