// Package testenv tells tests where the real servers are. `make test` starts them and sets the variables; with -short, tests that need one are
// skipped.
package testenv

import (
	"os"
	"testing"
)

// The variables that `make test` sets.
const (
	DatabaseURL      = "DATABASE_URL"
	KafkaBrokers     = "KAFKA_BROKERS"
	ElasticsearchURL = "ELASTICSEARCH_URL"
	Kubeconfig       = "KUBECONFIG"
	EnvtestAssets    = "KUBEBUILDER_ASSETS"
	Helm             = "HELM"         // the program
	Schemathesis     = "SCHEMATHESIS" // the program
	AtlasURL         = "ATLAS_URL"
)

// Require returns the variable's value. When it is not set the test is skipped with -short, and fails otherwise: a missing server must never
// look like a passed test.
func Require(t testing.TB, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	switch {
	case value != "":
		return value
	case testing.Short():
		t.Skipf("needs %s", variable)
	default:
		t.Fatalf("%s is not set: run `make test`, or `eval \"$(bin/devenv env --instance test)\"` after `bin/devenv up --instance test stack`", variable)
	}
	return ""
}
