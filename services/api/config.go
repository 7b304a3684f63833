package api

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/search"
	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/token"
)

const (
	registrationOpen   = "open"
	registrationClosed = "closed"

	anyOrigin    = "*"
	maxRateLimit = 1_000_000
)

// Config is what the API reads from the environment besides the blocks that it shares with other roles.
type Config struct {
	ListenAddr      string        `env:"LISTEN_ADDR" envDefault:":8080" help:"address of the REST API"`
	SigningKeyFile  string        `env:"JWT_SIGNING_KEY_FILE,notEmpty" help:"PEM file with an Ed25519 private key (PKCS #8)"`
	PreviousKeyFile string        `env:"JWT_PREVIOUS_KEY_FILE" help:"PEM file with another key whose tokens are accepted while keys are changed"`
	Issuer          string        `env:"JWT_ISSUER" envDefault:"atlas" help:"issuer of access tokens"`
	Audience        string        `env:"JWT_AUDIENCE" envDefault:"atlas-api" help:"audience of access tokens"`
	AccessTokenTTL  time.Duration `env:"ACCESS_TOKEN_TTL" envDefault:"15m" help:"lifetime of an access token"`
	RefreshTTL      time.Duration `env:"REFRESH_TOKEN_TTL" envDefault:"720h" help:"how long a session lasts without being refreshed"`
	TrustedProxies  []string      `env:"TRUSTED_PROXIES" envSeparator:"," help:"comma-separated CIDRs whose X-Forwarded-For is believed"`
	RateLimit       int           `env:"RATE_LIMIT" envDefault:"6000" help:"requests a minute that each caller may make of one replica; 0 for any number"`
	CORSOrigins     []string      `env:"CORS_ORIGINS" envSeparator:"," help:"comma-separated origins whose pages may call the API from a browser; * for all"`
	Registration    string        `env:"REGISTRATION" envDefault:"open" help:"open or closed: whether anybody may create an account"`
	Trash           config.Trash
}

// Validate implements config.Validator.
func (c *Config) Validate() []error {
	var errs []error
	if err := config.CheckListenAddr("LISTEN_ADDR", c.ListenAddr); err != nil {
		errs = append(errs, err)
	}
	if c.AccessTokenTTL < time.Second {
		errs = append(errs, fmt.Errorf("ACCESS_TOKEN_TTL=%s is not usable: want at least 1s", c.AccessTokenTTL))
	}
	if c.RefreshTTL < c.AccessTokenTTL {
		errs = append(errs, fmt.Errorf("REFRESH_TOKEN_TTL=%s is not usable: want at least ACCESS_TOKEN_TTL=%s", c.RefreshTTL, c.AccessTokenTTL))
	}
	for _, network := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(network); err != nil {
			errs = append(errs, fmt.Errorf("TRUSTED_PROXIES holds %q: want CIDRs, 10.0.0.0/8 for example", network))
		}
	}
	if c.RateLimit < 0 || c.RateLimit > maxRateLimit {
		errs = append(errs, fmt.Errorf("RATE_LIMIT=%d is not usable: want 0 to %d", c.RateLimit, maxRateLimit))
	}
	for _, origin := range c.CORSOrigins {
		if !validOrigin(origin) || (origin == anyOrigin && len(c.CORSOrigins) > 1) {
			errs = append(errs, fmt.Errorf("CORS_ORIGINS holds %q: want * alone or origins, https://app.example.com for example", origin))
		}
	}
	if c.Registration != registrationOpen && c.Registration != registrationClosed {
		errs = append(errs, fmt.Errorf("REGISTRATION=%q is unknown: want open or closed", c.Registration))
	}
	if c.Issuer == "" {
		errs = append(errs, errors.New("JWT_ISSUER is empty"))
	}
	if c.Audience == "" {
		errs = append(errs, errors.New("JWT_AUDIENCE is empty"))
	}
	for _, file := range []struct{ variable, path string }{
		{"JWT_SIGNING_KEY_FILE", c.SigningKeyFile}, {"JWT_PREVIOUS_KEY_FILE", c.PreviousKeyFile},
	} {
		if file.path == "" {
			continue
		}
		if _, err := token.LoadSigningKey(file.path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file.variable, err))
		}
	}
	return errs
}

// validOrigin tells whether a browser may send exactly this as its Origin: a scheme and a host in lower case, and a port that is not the default.
func validOrigin(origin string) bool {
	if origin == anyOrigin {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme != "" && u.Hostname() != "" && origin == strings.ToLower(u.Scheme+"://"+u.Host) &&
		(u.Scheme != "https" || u.Port() != "443") && (u.Scheme != "http" || u.Port() != "80")
}

// Searcher finds items. The query always names the collections that the caller may see.
type Searcher interface {
	Search(ctx context.Context, query search.Query) (search.Page, error)
	Suggest(ctx context.Context, prefix search.Prefix) (search.Suggestions, error)
	Fresh(ctx context.Context, writes []search.Write) (search.Freshness, error)
}

// Deps is what the API works with. Logger, Pool, Searcher, Registry and Health are required.
type Deps struct {
	Logger   *slog.Logger
	Pool     *pgxpool.Pool
	Searcher Searcher
	Registry prometheus.Registerer
	// Health answers /livez and /readyz here too, and is told when the drain starts.
	Health *telemetry.Health
	// Nudge, when set, is called after each commit, so that the relay need not wait for its next poll. It must not block.
	Nudge func()
	// WakeWorkers, when set, is called after each commit that concerns the workers, so that they need not wait for their next poll. It must not block.
	WakeWorkers func()
	// Objects is where the files of import and export jobs are; nil when there is no object store.
	Objects objects.Store
	// ShutdownTimeout bounds the drain; zero means 20 s.
	ShutdownTimeout time.Duration
	// Listener, when set, is served instead of Config.ListenAddr. It is closed when Run returns.
	Listener net.Listener
	// Listening, when set, is called with the address once connections are accepted.
	Listening func(address string)
	// SigningKey, when set, is used instead of the key in Config.SigningKeyFile.
	SigningKey ed25519.PrivateKey
	// PreviousKey, when set, is used instead of the key in Config.PreviousKeyFile.
	PreviousKey ed25519.PrivateKey
	// Clock, when set, replaces time.Now.
	Clock func() time.Time
	// SearchWait bounds how long a search waits for a write; zero means 10 s.
	SearchWait time.Duration
}
