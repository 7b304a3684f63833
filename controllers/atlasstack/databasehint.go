package atlasstack

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// databaseHint says what to change where a migration could not reach the database or was not let in, "" where that is not known. why is what its pod said last.
func databaseHint(spec *v1alpha1.PostgresSpec, why string) string {
	if !aboutDatabase(why) {
		return ""
	}
	secret := fmt.Sprintf("key %s of Secret %s", spec.URLSecretRef.Key, spec.URLSecretRef.Name)
	login := "correct the user and password in " + secret
	address := "check host and port in " + secret + ", and that the database runs and that network policies and firewalls let the migration's pod through"
	if proxy := spec.CloudSQL; proxy != nil {
		address = "check that " + secret + " names 127.0.0.1 and the connector's port, and spec.postgres.cloudSQL: the log of the connector in that pod says more"
		if proxy.IAMAuthentication {
			login = "make the identity in spec.serviceAccountAnnotations a user of the database, and name it in " + secret
		}
	}
	// The first that fits counts. What a server has answered comes before what the way there has to say: a client may have tried both.
	for _, known := range []struct {
		texts  []string
		wayOut string
	}{
		{[]string{"no pg_hba.conf entry"}, "let the user in by the server's pg_hba.conf or, if it asks for encryption, write sslmode=require in " + secret},
		{[]string{"(SQLSTATE 28"}, login},
		{[]string{"(SQLSTATE 3D000)"}, "create that database, or correct its name in " + secret},
		{[]string{"(SQLSTATE 42501)"}, "grant the user in " + secret + " the right, or make it the owner of the database"},
		{[]string{"(SQLSTATE 53300)"}, "raise max_connections of the server, or lower spec.postgres.maxConnections"},
		{[]string{"(SQLSTATE 57P03)"}, "wait until the server has started, its log says more"},
		{[]string{"(SQLSTATE 25006)"}, "name the primary server in " + secret + ", not a replica"},
		{[]string{"server refused TLS connection"}, "turn TLS on at the server, or write sslmode=disable in " + secret},
		{[]string{"certificate signed by unknown authority"}, "name the authority that signed the server's certificate in spec.postgres.caFrom"},
		{[]string{"x509: certificate is "}, "write a host that the server's certificate is for in " + secret + ", or mend the certificate"},
		{[]string{"parse DATABASE_URL"}, "correct " + secret},
		{[]string{"no such host", "server misbehaving"}, "correct the host in " + secret},
		{[]string{"connection refused", "timeout", "deadline exceeded", "no route to host", "network is unreachable", "connection reset"}, address},
	} {
		if slices.ContainsFunc(known.texts, func(text string) bool { return strings.Contains(why, text) }) {
			return known.wayOut
		}
	}
	return ""
}

// aboutDatabase is false for what only looks alike, such as a registry that has no address.
func aboutDatabase(why string) bool {
	return slices.ContainsFunc([]string{"reach the database", "failed to connect to `", "parse DATABASE_URL", "(SQLSTATE "}, func(text string) bool {
		return strings.Contains(why, text)
	})
}
