// Package elastic is how Atlas talks to Elasticsearch: the client, the definition of the index of items, and a synchronous bulk writer that
// answers for every single action.
package elastic

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/elastic/go-elasticsearch/v8"

	"github.com/atlas-platform/atlas/internal/tlsconfig"
)

// Config says how to reach Elasticsearch: by URLs or by an Elastic Cloud ID. An API key wins over a user name and password. CA are the certificates that
// the nodes' are checked with, in PEM; without them, the system's are.
type Config struct {
	URLs     []string
	CloudID  string
	CA       []byte
	Username string
	Password string
	APIKey   string
}

// NewClient makes a client. It does not connect yet, so that a role can start while Elasticsearch is away.
func NewClient(cfg Config) (*elasticsearch.Client, error) {
	settings, err := tlsconfig.Client(cfg.CA, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("TLS for Elasticsearch: %w", err)
	}
	client, err := elasticsearch.NewClient(elasticsearch.Config{
		Addresses: cfg.URLs, CloudID: cfg.CloudID, Username: cfg.Username, Password: cfg.Password, APIKey: cfg.APIKey,
		// Callers retry whole operations with their own backoff; a second layer would only hide an outage from them.
		DisableRetry: true,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       settings,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			MaxIdleConnsPerHost:   32,
			IdleConnTimeout:       90 * time.Second,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make the Elasticsearch client: %w", err)
	}
	return client, nil
}

// Ping tells whether the alias can be searched: it fails when Elasticsearch is away or the alias is missing.
func Ping(ctx context.Context, es *elasticsearch.Client, alias string) error {
	res, err := es.Indices.ExistsAlias([]string{alias}, es.Indices.ExistsAlias.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("reach Elasticsearch: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == http.StatusNotFound:
		return fmt.Errorf("the search index %s does not exist yet", alias)
	case res.IsError():
		return fmt.Errorf("look for the search index %s: status %d", alias, res.StatusCode)
	}
	return nil
}
