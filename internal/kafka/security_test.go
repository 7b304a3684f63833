package kafka_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/atlas-platform/atlas/internal/kafka"
)

const password = "a-password-of-the-test"

// authority signs certificates for the broker and its clients.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.certificate, a.key, a.pem, _ = a.issue(t, "CA", true)
	return a
}

func (a *authority) issue(t *testing.T, name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), NotBefore: time.Now().Add(-time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, by := a.certificate, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// secured starts a broker that takes nobody without a password and a client certificate.
func secured(t *testing.T, a *authority) []string {
	t.Helper()
	_, _, certificate, key := a.issue(t, "broker", false)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	clients := x509.NewCertPool()
	clients.AddCert(a.certificate)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}),
		kfake.Superuser("PLAIN", "plain", password), kfake.Superuser("SCRAM-SHA-256", "scram256", password), kfake.Superuser("SCRAM-SHA-512", "scram512", password))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

// connect asks the broker something.
func connect(t *testing.T, brokers []string, s kafka.Security) error {
	t.Helper()
	cfg := kafka.NewConfig("test")
	cfg.Metadata.Retry.Max = 0
	cfg.Net.DialTimeout, cfg.Net.ReadTimeout = 5*time.Second, 5*time.Second
	require.NoError(t, s.Apply(cfg))
	client, err := sarama.NewClient(brokers, cfg)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, client.Close()) }()
	broker, err := client.Controller()
	require.NoError(t, err)
	_, err = broker.GetMetadata(&sarama.MetadataRequest{})
	return err
}

func TestConnectionsAreEncryptedAndAuthenticated(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	brokers := secured(t, a)
	_, _, certificate, key := a.issue(t, "client", false)
	for mechanism, user := range map[string]string{"PLAIN": "plain", "SCRAM-SHA-256": "scram256", "SCRAM-SHA-512": "scram512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			good := kafka.Security{TLS: true, CA: a.pem, Certificate: certificate, Key: key, Mechanism: mechanism, Username: user, Password: password}
			require.NoError(t, connect(t, brokers, good))
			for name, change := range map[string]func(*kafka.Security){
				"a wrong password":            func(s *kafka.Security) { s.Password = "wrong" },
				"an unknown user":             func(s *kafka.Security) { s.Username = "nobody" },
				"no password":                 func(s *kafka.Security) { s.Mechanism = "" },
				"no client certificate":       func(s *kafka.Security) { s.Certificate, s.Key = nil, nil },
				"no encryption":               func(s *kafka.Security) { s.TLS = false },
				"the system's CAs":            func(s *kafka.Security) { s.CA = nil },
				"somebody else's CA":          func(s *kafka.Security) { s.CA = newAuthority(t).pem },
				"somebody else's certificate": func(s *kafka.Security) { _, _, s.Certificate, s.Key = newAuthority(t).issue(t, "client", false) },
			} {
				bad := good
				change(&bad)
				err := connect(t, brokers, bad)
				require.Error(t, err, name)
				require.NotContains(t, err.Error(), password)
			}
		})
	}
}

func TestTokensComeFromTheirServerAndAreKept(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		asked <- user + " " + secret + " " + r.FormValue("grant_type") + " " + r.FormValue("scope")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"the-token","token_type":"bearer","expires_in":3600}`))
	}))
	t.Cleanup(server.Close)
	cfg := kafka.NewConfig("test")
	s := kafka.Security{Mechanism: "OAUTHBEARER", OAuth: kafka.OAuth{TokenURL: server.URL, ClientID: "id", ClientSecret: "secret", Scopes: []string{"kafka", "more"}}}
	require.NoError(t, s.Apply(cfg))
	for range 2 {
		token, err := cfg.Net.SASL.TokenProvider.Token()
		require.NoError(t, err)
		require.Equal(t, "the-token", token.Token)
	}
	require.Equal(t, "id secret client_credentials kafka more", <-asked)
	require.Empty(t, asked)
	require.NoError(t, cfg.Validate())
}

func TestWhatCanNotSecureAConnectionIsAnError(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, s := range map[string]kafka.Security{
		"CA":          {TLS: true, CA: []byte("no certificate")},
		"certificate": {TLS: true, Certificate: a.pem},
		"mechanism":   {Mechanism: "GSSAPI"},
	} {
		require.Error(t, s.Apply(kafka.NewConfig("test")), name)
	}
}
