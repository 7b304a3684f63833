package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Database says how to reach PostgreSQL.
type Database struct {
	URL      string `env:"DATABASE_URL,notEmpty" help:"PostgreSQL URI, postgres://user:password@host:port/database"`
	MaxConns int32  `env:"DATABASE_MAX_CONNS" envDefault:"10" help:"size of the connection pool"`
}

// Validate implements Validator.
func (c *Database) Validate() []error {
	var errs []error
	// The URI holds the password: no part of it may appear in an error.
	if u, err := url.Parse(c.URL); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		errs = append(errs, fmt.Errorf("DATABASE_URL is not a PostgreSQL URI: want postgres://user:password@host:port/database"))
	}
	if c.MaxConns < 2 {
		errs = append(errs, fmt.Errorf("DATABASE_MAX_CONNS=%d is too small: want at least 2", c.MaxConns))
	}
	return errs
}

// The names that an AtlasStack may ask for too.
var (
	topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,245}$`)
	aliasName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,199}$`)
)

// Kafka says how to reach the brokers and which topic carries the domain events.
type Kafka struct {
	Brokers []string `env:"KAFKA_BROKERS,notEmpty" envSeparator:"," help:"comma-separated host:port"`
	Topic   string   `env:"KAFKA_TOPIC" envDefault:"atlas.domain-events.v1" help:"topic of the domain events; dead letters go to <topic>.dlq"`
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
	return errs
}

// Elasticsearch says how to reach the search engine and which alias holds the items.
type Elasticsearch struct {
	URLs     []string `env:"ELASTICSEARCH_URL,notEmpty" envSeparator:"," help:"comma-separated http(s) URLs"`
	Username string   `env:"ELASTICSEARCH_USERNAME" help:"basic authentication"`
	Password string   `env:"ELASTICSEARCH_PASSWORD" help:"basic authentication"`
	APIKey   string   `env:"ELASTICSEARCH_API_KEY" help:"encoded API key; wins over user name and password"`
	Index    string   `env:"ELASTICSEARCH_INDEX" envDefault:"atlas-items" help:"alias that is searched and written"`
}

// Validate implements Validator.
func (c *Elasticsearch) Validate() []error {
	var errs []error
	for _, address := range c.URLs {
		u, err := url.Parse(address)
		switch {
		case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
			errs = append(errs, fmt.Errorf("ELASTICSEARCH_URL is not usable: want http://host:port or https://host:port"))
		case u.User != nil:
			errs = append(errs, fmt.Errorf("ELASTICSEARCH_URL contains credentials: give them in ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD"))
		}
	}
	if !aliasName.MatchString(c.Index) {
		errs = append(errs, fmt.Errorf("ELASTICSEARCH_INDEX=%q is no alias's name: want lower-case letters, digits, '.', '_' and '-', 200 characters at most", c.Index))
	}
	if (c.Username == "") != (c.Password == "") {
		errs = append(errs, fmt.Errorf("ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD go together: only one is set"))
	}
	return errs
}

// Trash says how long deleted items can be restored.
type Trash struct {
	Retention time.Duration `env:"TRASH_RETENTION" envDefault:"720h" help:"how long deleted items stay in the trash"`
}

// Validate implements Validator.
func (c *Trash) Validate() []error {
	if c.Retention <= 0 {
		return []error{fmt.Errorf("TRASH_RETENTION=%s is not usable: want more than 0s", c.Retention)}
	}
	return nil
}

// Ops says where a role answers probes and metrics, and how long its drain may take.
type Ops struct {
	Addr            string        `env:"OPS_ADDR" envDefault:":9090" help:"address of /livez, /readyz and /metrics"`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20s" help:"how long a drain may take after SIGTERM"`
}

// Validate implements Validator.
func (c *Ops) Validate() []error {
	var errs []error
	if err := CheckListenAddr("OPS_ADDR", c.Addr); err != nil {
		errs = append(errs, err)
	}
	if c.ShutdownTimeout <= 0 {
		errs = append(errs, fmt.Errorf("SHUTDOWN_TIMEOUT=%s is not usable: want more than 0s", c.ShutdownTimeout))
	}
	return errs
}

// Log says what is logged and how.
type Log struct {
	Level  string `env:"LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	Format string `env:"LOG_FORMAT" envDefault:"json" help:"json or text"`
}

// Validate implements Validator.
func (c *Log) Validate() []error {
	var errs []error
	var level slog.Level
	if level.UnmarshalText([]byte(c.Level)) != nil {
		errs = append(errs, fmt.Errorf("LOG_LEVEL=%q is unknown: want debug, info, warn or error", c.Level))
	}
	if c.Format != "json" && c.Format != "text" {
		errs = append(errs, fmt.Errorf("LOG_FORMAT=%q is unknown: want json or text", c.Format))
	}
	return errs
}

// CheckListenAddr tells whether value can be listened on; the error names the variable.
func CheckListenAddr(variable, value string) error {
	_, port, err := net.SplitHostPort(value)
	if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s=%q is not an address to listen on: want [host]:port", variable, value)
	}
	return nil
}

func validHostPort(value string) bool {
	host, port, err := net.SplitHostPort(strings.TrimSpace(value))
	n, numErr := strconv.Atoi(port)
	return err == nil && host != "" && numErr == nil && n > 0 && n <= 65535
}
