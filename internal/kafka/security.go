package kafka

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/atlas-platform/atlas/internal/tlsconfig"
)

// tokenTimeout bounds a request for an OAuth token.
const tokenTimeout = 10 * time.Second

// Mechanisms are the SASL mechanisms that Security.Mechanism may be.
func Mechanisms() []string {
	return []string{sarama.SASLTypePlaintext, sarama.SASLTypeSCRAMSHA256, sarama.SASLTypeSCRAMSHA512, sarama.SASLTypeOAuth}
}

// Security says how connections to the brokers are encrypted and authenticated. The zero value is neither.
type Security struct {
	// TLS encrypts. CA are the certificates that the brokers' are checked with, in PEM; without them, the system's are.
	TLS bool
	CA  []byte
	// Certificate and Key are the client's for mutual TLS, in PEM, or empty.
	Certificate, Key []byte
	// Mechanism is one of Mechanisms, or empty. OAUTHBEARER takes OAuth, the others Username and Password.
	Mechanism          string
	Username, Password string
	OAuth              OAuth
}

// OAuth is a client that gets its tokens by the client credentials grant (RFC 6749, section 4.4).
type OAuth struct {
	TokenURL               string
	ClientID, ClientSecret string
	Scopes                 []string
}

// Apply sets up TLS and SASL in the settings of a client. Its errors hold no secret.
func (s Security) Apply(cfg *sarama.Config) error {
	if s.TLS {
		settings, err := tlsconfig.Client(s.CA, s.Certificate, s.Key)
		if err != nil {
			return fmt.Errorf("TLS for Kafka: %w", err)
		}
		cfg.Net.TLS.Enable, cfg.Net.TLS.Config = true, settings
	}
	if s.Mechanism == "" {
		return nil
	}
	cfg.Net.SASL.Enable, cfg.Net.SASL.Version = true, sarama.SASLHandshakeV1
	cfg.Net.SASL.Mechanism = sarama.SASLMechanism(s.Mechanism)
	cfg.Net.SASL.User, cfg.Net.SASL.Password = s.Username, s.Password
	switch s.Mechanism {
	case sarama.SASLTypePlaintext:
	case sarama.SASLTypeSCRAMSHA256:
		cfg.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{mechanism: scram.Auth.AsSha256Mechanism} }
	case sarama.SASLTypeSCRAMSHA512:
		cfg.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{mechanism: scram.Auth.AsSha512Mechanism} }
	case sarama.SASLTypeOAuth:
		cfg.Net.SASL.TokenProvider = newTokens(s.OAuth)
	default:
		return fmt.Errorf("the SASL mechanism %q is unknown: want one of %v", s.Mechanism, Mechanisms())
	}
	return nil
}

// scramClient lets sarama use franz-go's SCRAM (RFC 5802).
type scramClient struct {
	mechanism func(scram.Auth) sasl.Mechanism
	session   sasl.Session
	first     []byte
	done      bool
}

// Begin implements sarama.SCRAMClient.
func (c *scramClient) Begin(user, password, authorization string) (err error) {
	c.session, c.first, err = c.mechanism(scram.Auth{User: user, Pass: password, Zid: authorization}).Authenticate(context.Background(), "")
	return err //nolint:wrapcheck // sarama says what it was doing
}

// Step implements sarama.SCRAMClient.
func (c *scramClient) Step(challenge string) (string, error) {
	if c.first != nil {
		first := c.first
		c.first = nil
		return string(first), nil
	}
	done, response, err := c.session.Challenge([]byte(challenge))
	c.done = done
	return string(response), err //nolint:wrapcheck // as above
}

// Done implements sarama.SCRAMClient.
func (c *scramClient) Done() bool { return c.done }

// tokens gets tokens and keeps each until it is about to expire.
type tokens struct{ source oauth2.TokenSource }

func newTokens(o OAuth) *tokens {
	grant := clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: o.Scopes}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: tokenTimeout})
	return &tokens{source: grant.TokenSource(ctx)}
}

// Token implements sarama.AccessTokenProvider.
func (t *tokens) Token() (*sarama.AccessToken, error) {
	token, err := t.source.Token()
	if err != nil {
		return nil, fmt.Errorf("get a token for Kafka: %w", err)
	}
	return &sarama.AccessToken{Token: token.AccessToken}, nil
}
