// Package testenv tells tests where the real servers are. `make test` starts them and sets the variables; with -short, tests that need one are
// skipped.
package testenv

import (
	"os"
	"path/filepath"
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
	Instance         = "DEVENV_INSTANCE" // the environment's name, for what devenv can do to it
	// A listener of the same Kafka that takes nobody without a client certificate and SASL, another one for pods, and the folder with ca.pem, client.pem and
	// client.key. They are not set where Kafka was given.
	SecuredBrokers      = "SECURED_KAFKA_BROKERS"
	SecuredNodeBrokers  = "SECURED_KAFKA_NODE_BROKERS"
	SecuredCertificates = "SECURED_KAFKA_CERTIFICATES"
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

// Tools returns the folder of one of the tools' modules in hack/tools, from any package's folder of the checkout.
func Tools(module string) (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		folder := filepath.Join(root, "hack", "tools", module)
		_, err := os.Stat(filepath.Join(folder, "go.mod"))
		if err == nil || filepath.Dir(root) == root {
			return folder, err
		}
		root = filepath.Dir(root)
	}
}
