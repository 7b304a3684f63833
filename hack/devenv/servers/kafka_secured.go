package servers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// The listeners that take nobody without TLS, a client certificate and SASL, for tests. Their users for PLAIN are in their settings; those for SCRAM are made
// by the tests; OAUTHBEARER takes tokens without a signature, which anybody can make.
const (
	SecuredUser     = "atlas"
	SecuredPassword = "only-for-tests"
	// SecuredNodeListener is the name of the one for pods. A test may change its certificates while the broker runs.
	SecuredNodeListener = "secured_node"
)

// The files of its certificates, in PEM.
const (
	SecuredCA          = "ca.pem"
	SecuredCertificate = "client.pem"
	SecuredKey         = "client.key"
	securedBroker      = "server.pem" // with the key
)

// SecuredBrokerName is whom the broker's certificate is for. Kafka takes another certificate while it runs when it is for the same.
const SecuredBrokerName = "Atlas test broker"

// securedFiles makes a CA, and certificates of a broker and a client, once. The CA's key is kept by nobody.
func securedFiles(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, securedBroker)); !errors.Is(err, fs.ErrNotExist) {
		return err //nolint:wrapcheck // names the file
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the folder of Kafka's certificates: %w", err)
	}
	ca, err := NewAuthority("Atlas test CA")
	if err != nil {
		return err
	}
	client, clientKey, err := ca.Issue("Atlas test client")
	if err != nil {
		return err
	}
	broker, brokerKey, err := ca.Issue(SecuredBrokerName)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{SecuredCA, ca.PEM}, {SecuredCertificate, client}, {SecuredKey, clientKey}, {securedBroker, append(brokerKey, broker...)}} {
		// The broker runs as another user. Nothing that is worth anything is behind these keys.
		if err := process.WriteFile(filepath.Join(dir, f.name), f.content, 0o644); err != nil {
			return fmt.Errorf("write Kafka's certificates: %w", err)
		}
	}
	return nil
}

// securedProperties are the settings of both listeners.
func securedProperties(dir string) string {
	var settings strings.Builder
	for _, listener := range []string{"secured", SecuredNodeListener} {
		_, _ = strings.NewReplacer("{listener}", listener, "{dir}", dir, "{user}", SecuredUser, "{password}", SecuredPassword).WriteString(&settings,
			`listener.name.{listener}.ssl.keystore.type=PEM
listener.name.{listener}.ssl.keystore.location={dir}/server.pem
listener.name.{listener}.ssl.truststore.type=PEM
listener.name.{listener}.ssl.truststore.location={dir}/ca.pem
listener.name.{listener}.ssl.client.auth=required
listener.name.{listener}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.{listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.{listener}.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{listener}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.{listener}.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
`)
	}
	return settings.String()
}
