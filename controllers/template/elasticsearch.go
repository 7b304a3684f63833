package template

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/elastic/go-elasticsearch/v8"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/tlsconfig"
)

const (
	dialTimeout    = 3 * time.Second
	observeTimeout = 5 * time.Second
	changeTimeout  = 30 * time.Second
	retryLost      = 5 * time.Second
	retryRefused   = 15 * time.Second
)

// elasticAdmin is an Admin over go-elasticsearch, made for one reconciliation.
type elasticAdmin struct {
	es        *elasticsearch.Client
	transport *http.Transport
	addresses string
}

var _ Admin = (*elasticAdmin)(nil)

// ConnectElasticsearch is Connect over go-elasticsearch. It sends nothing yet.
func ConnectElasticsearch(_ context.Context, target Target) (Admin, error) {
	security, err := tlsconfig.Client(target.CA, nil, nil)
	if err != nil {
		return nil, &apply.Stalled{Reason: v1alpha1.ReasonSecretInvalid, Message: fmt.Sprintf("spec.elasticsearch.caFrom: %v", err)}
	}
	transport := &http.Transport{
		TLSClientConfig:     security,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 1,
	}
	es, err := elasticsearch.NewClient(elasticsearch.Config{
		Addresses: target.Addresses, CloudID: target.CloudID, Username: target.Username, Password: target.Password, APIKey: target.APIKey,
		Transport: transport, MaxRetries: max(0, len(target.Addresses)-1), DisableRetry: len(target.Addresses) <= 1,
	})
	if err != nil {
		return nil, &apply.Stalled{Reason: v1alpha1.ReasonRefused, Message: fmt.Sprintf("spec.elasticsearch can't be used: %v", err)}
	}
	name := strings.Join(target.Addresses, ", ")
	if name == "" {
		name = "Elastic Cloud"
	}
	return &elasticAdmin{es: es, transport: transport, addresses: name}, nil
}

func (a *elasticAdmin) Close() { a.transport.CloseIdleConnections() }

func (a *elasticAdmin) Observe(ctx context.Context, alias string) (elastic.IndexState, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	state, err := elastic.ObserveIndex(ctx, a.es, alias)
	if err != nil {
		return elastic.IndexState{}, a.classify(err)
	}
	return state, nil
}

func (a *elasticAdmin) Apply(ctx context.Context, change elastic.IndexChange) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := elastic.ApplyIndex(ctx, a.es, change); err != nil {
		return a.classify(err)
	}
	return nil
}

// classify turns errors into the typed ones. What Elasticsearch answered is told apart from not having reached it, where the message does not say
// what was being done: another stack that asks the same servers is told it too.
func (a *elasticAdmin) classify(err error) error {
	var answer *elastic.IndexAPIError
	if !errors.As(err, &answer) {
		return &apply.Waiting{
			Reason: v1alpha1.ReasonUnreachable, After: retryLost, Lost: true,
			Message: fmt.Sprintf("Elasticsearch at %s can't be reached: %s", a.addresses, unreached(err)),
		}
	}
	message := fmt.Sprintf("Elasticsearch at %s: %v", a.addresses, err)
	switch answer.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		// Its own words may name what was asked for, such as the index that it had no time to make.
		message = strings.TrimSpace(fmt.Sprintf("Elasticsearch at %s can't answer now: %d %s", a.addresses, answer.Status, answer.Type))
		return &apply.Waiting{Reason: v1alpha1.ReasonUnreachable, Message: message, After: retryLost, Lost: true}
	case http.StatusUnauthorized:
		message += ": correct the Secret that elasticsearch.credentialsSecretRef names, or set it"
	case http.StatusForbidden:
		message += ": grant this user manage_index_templates on the cluster and manage, read and write on the index pattern"
	}
	return &apply.Waiting{Reason: v1alpha1.ReasonRefused, Message: message, After: retryRefused}
}

// reason leaves out what differs between attempts, such as the local port, so that a condition does not change.
func reason(err error) string {
	var (
		dns    *net.DNSError
		op     *net.OpError
		verify *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &dns):
		return "no such host " + dns.Name
	case errors.As(err, &op) && op.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.As(err, &verify):
		return verify.Error()
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner // what is around it says what was being done
	}
	return err.Error()
}
