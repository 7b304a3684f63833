package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/tlsconfig"
)

// Kafka says how to reach the brokers and which topic carries the domain events.
type Kafka struct {
	Brokers []string `env:"KAFKA_BROKERS,notEmpty" envSeparator:"," help:"comma-separated host:port"`
	Topic   string   `env:"KAFKA_TOPIC" envDefault:"atlas.domain-events.v1" help:"topic of the domain events; dead letters go to <topic>.dlq"`

	TLS      bool   `env:"KAFKA_TLS" envDefault:"false" help:"encrypt the connections; so do KAFKA_CA_FILE and KAFKA_CERT_FILE"`
	CAFile   string `env:"KAFKA_CA_FILE" help:"PEM file with the CA of the brokers' certificates; without it, the system's CAs are trusted"`
	CertFile string `env:"KAFKA_CERT_FILE" help:"PEM file with the client certificate for mutual TLS"`
	KeyFile  string `env:"KAFKA_KEY_FILE" help:"PEM file with the client certificate's key"`

	Mechanism    string   `env:"KAFKA_SASL_MECHANISM" help:"PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; none by default"`
	SASLUsername string   `env:"KAFKA_SASL_USERNAME" help:"user for PLAIN and SCRAM"`
	SASLPassword string   `env:"KAFKA_SASL_PASSWORD" help:"password for PLAIN and SCRAM"`
	TokenURL     string   `env:"KAFKA_OAUTH_TOKEN_URL" help:"where OAUTHBEARER gets tokens, by the client credentials grant"`
	ClientID     string   `env:"KAFKA_OAUTH_CLIENT_ID" help:"client for OAUTHBEARER"`
	ClientSecret string   `env:"KAFKA_OAUTH_CLIENT_SECRET" help:"the client's secret"`
	ClientScopes []string `env:"KAFKA_OAUTH_SCOPES" envSeparator:"," help:"comma-separated scopes that tokens are asked for with"`
}

// Validate implements Validator.
func (c *Kafka) Validate() []error {
	var errs []error
	for _, broker := range c.Brokers {
		if !validHostPort(broker) {
			errs = append(errs, fmt.Errorf("KAFKA_BROKERS holds %q: want host:port", broker))
		}
	}
	if !topicName.MatchString(c.Topic) {
		errs = append(errs, fmt.Errorf("KAFKA_TOPIC=%q is no topic's name: want letters, digits, '.', '_' and '-', 245 characters at most", c.Topic))
	}
	if c.CertFile == "" && c.KeyFile != "" {
		errs = append(errs, fmt.Errorf("KAFKA_CERT_FILE is not set, and KAFKA_KEY_FILE is: they go together"))
	}
	if c.CertFile != "" && c.KeyFile == "" {
		errs = append(errs, fmt.Errorf("KAFKA_KEY_FILE is not set, and KAFKA_CERT_FILE is: they go together"))
	}
	if len(errs) == 0 { // what is in the files, too
		if err := c.readable(); err != nil {
			errs = append(errs, err)
		}
	}
	return append(errs, c.validateSASL()...)
}

// readable tells what is wrong with the files.
func (c *Kafka) readable() error {
	security, err := c.security()
	if err != nil {
		return err
	}
	security.Mechanism = ""
	if err := security.Apply(kafka.NewConfig("")); err != nil {
		variable := "KAFKA_CA_FILE"
		if errors.Is(err, tlsconfig.ErrCertificate) {
			variable = "KAFKA_CERT_FILE"
		}
		return fmt.Errorf("%s: %w", variable, err)
	}
	return nil
}

func (c *Kafka) validateSASL() []error {
	var errs []error
	needs := func(name, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is required with KAFKA_SASL_MECHANISM=%s", name, c.Mechanism))
		}
	}
	switch {
	case c.Mechanism == "":
	case !slices.Contains(kafka.Mechanisms(), c.Mechanism):
		errs = append(errs, fmt.Errorf("KAFKA_SASL_MECHANISM=%q is unknown: want %s", c.Mechanism, strings.Join(kafka.Mechanisms(), ", ")))
	case c.Mechanism == sarama.SASLTypeOAuth:
		needs("KAFKA_OAUTH_TOKEN_URL", c.TokenURL)
		needs("KAFKA_OAUTH_CLIENT_ID", c.ClientID)
		needs("KAFKA_OAUTH_CLIENT_SECRET", c.ClientSecret)
		if u, err := url.Parse(c.TokenURL); c.TokenURL != "" && (err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "") {
			errs = append(errs, fmt.Errorf("KAFKA_OAUTH_TOKEN_URL is no http or https URL"))
		}
	default:
		needs("KAFKA_SASL_USERNAME", c.SASLUsername)
		needs("KAFKA_SASL_PASSWORD", c.SASLPassword)
	}
	return errs
}

// Secure sets up TLS and SASL in the settings of a client. It reads the files as they are now, so that each new connection has the newest.
func (c *Kafka) Secure(settings *sarama.Config) error {
	security, err := c.security()
	if err != nil {
		return err
	}
	return security.Apply(settings)
}

// security reads the files. Its errors start with the variable's name.
func (c *Kafka) security() (kafka.Security, error) {
	s := kafka.Security{
		TLS:       c.TLS || c.CAFile != "" || c.CertFile != "",
		Mechanism: c.Mechanism, Username: c.SASLUsername, Password: c.SASLPassword,
		OAuth: kafka.OAuth{TokenURL: c.TokenURL, ClientID: c.ClientID, ClientSecret: c.ClientSecret, Scopes: c.ClientScopes},
	}
	for _, f := range []struct {
		variable, path string
		content        *[]byte
	}{{"KAFKA_CA_FILE", c.CAFile, &s.CA}, {"KAFKA_CERT_FILE", c.CertFile, &s.Certificate}, {"KAFKA_KEY_FILE", c.KeyFile, &s.Key}} {
		if f.path == "" {
			continue
		}
		content, err := os.ReadFile(f.path)
		if err != nil {
			return s, fmt.Errorf("%s can't be read: %w", f.variable, err)
		}
		*f.content = content
	}
	return s, nil
}
