package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/pguri"
	"github.com/atlas-platform/atlas/internal/tlsconfig"
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
	if err := pguri.Check(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("DATABASE_URL %w", err))
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

// Elasticsearch says how to reach the search engine and which alias holds the items.
type Elasticsearch struct {
	URLs     []string `env:"ELASTICSEARCH_URL" envSeparator:"," help:"comma-separated http(s) URLs; required without ELASTICSEARCH_CLOUD_ID"`
	CloudID  string   `env:"ELASTICSEARCH_CLOUD_ID" help:"a deployment of Elastic Cloud, instead of URLs"`
	CAFile   string   `env:"ELASTICSEARCH_CA_FILE" help:"PEM file with the CA of the nodes' certificates; without it, the system's CAs are trusted"`
	Username string   `env:"ELASTICSEARCH_USERNAME" help:"basic authentication"`
	Password string   `env:"ELASTICSEARCH_PASSWORD" help:"basic authentication"`
	APIKey   string   `env:"ELASTICSEARCH_API_KEY" help:"encoded API key; wins over user name and password"`
	Index    string   `env:"ELASTICSEARCH_INDEX" envDefault:"atlas-items" help:"alias that is searched and written"`
	Language string   `env:"ELASTICSEARCH_LANGUAGE" envDefault:"english" help:"language of the index, as its template has it"`
}

// Validate implements Validator.
func (c *Elasticsearch) Validate() []error {
	var errs []error
	switch {
	case len(c.URLs) == 0 && c.CloudID == "":
		errs = append(errs, fmt.Errorf("ELASTICSEARCH_URL is required and not set"))
	case len(c.URLs) > 0 && c.CloudID != "":
		errs = append(errs, fmt.Errorf("ELASTICSEARCH_CLOUD_ID and ELASTICSEARCH_URL are both set: want one of them"))
	}
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
	if !slices.Contains(elastic.Languages(), c.Language) {
		errs = append(errs, fmt.Errorf("ELASTICSEARCH_LANGUAGE=%q is unknown: want one of %s", c.Language, strings.Join(elastic.Languages(), ", ")))
	}
	if (c.Username == "") != (c.Password == "") {
		errs = append(errs, fmt.Errorf("ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD go together: only one is set"))
	}
	if settings, err := c.Client(); err != nil {
		errs = append(errs, err)
	} else if _, err := tlsconfig.Client(settings.CA, nil, nil); err != nil {
		errs = append(errs, fmt.Errorf("ELASTICSEARCH_CA_FILE: %w", err))
	}
	return errs
}

// Client says how to reach Elasticsearch. It reads the CA's file.
func (c *Elasticsearch) Client() (elastic.Config, error) {
	out := elastic.Config{URLs: c.URLs, CloudID: c.CloudID, Username: c.Username, Password: c.Password, APIKey: c.APIKey}
	if c.CAFile == "" {
		return out, nil
	}
	var err error
	if out.CA, err = os.ReadFile(c.CAFile); err != nil {
		return out, fmt.Errorf("ELASTICSEARCH_CA_FILE can't be read: %w", err)
	}
	return out, nil
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

// Jobs says how long finished jobs can be looked at.
type Jobs struct {
	JobRetention time.Duration `env:"JOB_RETENTION" envDefault:"720h" help:"how long finished jobs are kept"`
}

// Validate implements Validator.
func (c *Jobs) Validate() []error {
	if c.JobRetention <= 0 {
		return []error{fmt.Errorf("JOB_RETENTION=%s is not usable: want more than 0s", c.JobRetention)}
	}
	return nil
}

// Objects says where files are kept.
type Objects struct {
	StoreURL string `env:"OBJECT_STORE_URL" help:"where import and export jobs have their files: s3://bucket/prefix?endpoint=…&region=…&path_style=… or file:///folder"`
}

// Validate implements Validator.
func (c *Objects) Validate() []error {
	if c.StoreURL == "" {
		return nil
	}
	if err := objects.CheckURL(c.StoreURL); err != nil {
		return []error{fmt.Errorf("OBJECT_STORE_URL is not usable: %w", err)}
	}
	return nil
}

// Files says how long files are kept in the object store.
type Files struct {
	FileRetention time.Duration `env:"FILE_RETENTION" envDefault:"168h" help:"how long exports and uploads stay in the object store"`
}

// Validate implements Validator.
func (c *Files) Validate() []error {
	if c.FileRetention <= 0 {
		return []error{fmt.Errorf("FILE_RETENTION=%s is not usable: want more than 0s", c.FileRetention)}
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

// Log says what is logged and how, and where spans are sent.
type Log struct {
	Level   string `env:"LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error"`
	Format  string `env:"LOG_FORMAT" envDefault:"json" help:"json or text"`
	Tracing Tracing
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

// Enrich says which web pages the worker may fetch, beside those of the public Internet.
type Enrich struct {
	Allow   []string `env:"ENRICH_ALLOW_CIDRS" envSeparator:"," help:"comma-separated CIDRs of an intranet whose pages may be fetched, from any port; none by default"`
	Deny    []string `env:"ENRICH_DENY_CIDRS" envSeparator:"," help:"comma-separated CIDRs that are never fetched from although they are public, such as your own"`
	Contact string   `env:"ENRICH_CONTACT" help:"URL or e-mail address in the User-Agent, for the owners of the servers that are asked"`
}

// Validate implements Validator.
func (c *Enrich) Validate() []error {
	var errs []error
	for _, list := range []struct {
		name  string
		cidrs []string
	}{{"ENRICH_ALLOW_CIDRS", c.Allow}, {"ENRICH_DENY_CIDRS", c.Deny}} {
		for _, cidr := range list.cidrs {
			if _, err := netip.ParsePrefix(cidr); err != nil {
				errs = append(errs, fmt.Errorf("%s holds %q: want CIDRs, 10.0.0.0/8 for example", list.name, cidr))
			}
		}
	}
	if strings.ContainsFunc(c.Contact, func(r rune) bool { return r <= ' ' || r > '~' || r == '(' || r == ')' }) || len(c.Contact) > 200 {
		errs = append(errs, fmt.Errorf("ENRICH_CONTACT=%q is no URL or e-mail address", c.Contact))
	}
	return errs
}

// Networks are the CIDRs, which are valid.
func (c *Enrich) Networks() (allow, deny []netip.Prefix) {
	for _, cidr := range c.Allow {
		allow = append(allow, netip.MustParsePrefix(cidr).Masked())
	}
	for _, cidr := range c.Deny {
		deny = append(deny, netip.MustParsePrefix(cidr).Masked())
	}
	return allow, deny
}
