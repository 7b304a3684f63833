package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/atlas-platform/atlas/internal/telemetry"
)

// Tracing says where spans are sent and of which requests. The variables are OpenTelemetry's; its others, such as OTEL_EXPORTER_OTLP_HEADERS and
// OTEL_RESOURCE_ATTRIBUTES, count too.
type Tracing struct {
	Endpoint string  `env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"URL of a collector that takes OTLP over HTTP, to which spans are sent; without it there are none"`
	Sampler  string  `env:"OTEL_TRACES_SAMPLER" envDefault:"parentbased_traceidratio" help:"which requests have spans: the share of the next variable, where the caller has not decided; or always_on, always_off, parentbased_always_on, …"`
	Share    float64 `env:"OTEL_TRACES_SAMPLER_ARG" envDefault:"1" help:"share of the requests that have spans, from 0 to 1"`
}

// Validate implements Validator.
func (c *Tracing) Validate() []error {
	var errs []error
	if u, err := url.Parse(c.Endpoint); c.Endpoint != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "") {
		errs = append(errs, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT is not usable: want http://host:4318 or https://host:4318"))
	}
	if !slices.Contains(telemetry.Samplers(), c.Sampler) {
		errs = append(errs, fmt.Errorf("OTEL_TRACES_SAMPLER=%q is unknown: want one of %s", c.Sampler, strings.Join(telemetry.Samplers(), ", ")))
	}
	if !(c.Share >= 0 && c.Share <= 1) { // NaN too
		errs = append(errs, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG=%v is no share: want a number from 0 to 1", c.Share))
	}
	return errs
}

// Of are the settings for a service's spans.
func (c *Tracing) Of(service string) telemetry.Tracing {
	return telemetry.Tracing{Endpoint: c.Endpoint, Service: service, Sampler: c.Sampler, Share: c.Share}
}
