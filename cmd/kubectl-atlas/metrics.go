package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// metricsTimeout bounds how long a pod may take to answer.
const metricsTimeout = 5 * time.Second

// opsPort is the port of every role's metrics.
const opsPort = "9090"

// told are the metrics that status tells, by their words. Those of several pods are added up, unless they speak of the same thing.
var told = map[string]struct { //nolint:gochecknoglobals // a table
	words string
	same  bool
}{
	"atlas_outbox_depth":              {"events to publish", true},
	"atlas_outbox_oldest_age_seconds": {"oldest, in seconds", true},
	"atlas_consumer_lag_messages":     {"messages behind", false},
	"atlas_search_index_complete":     {"index complete", true},
	"atlas_jobs_running":              {"jobs running", false},
}

// metrics are those of a role's pods, read through the API server; or why there are none.
func (c *cluster) metrics(ctx context.Context, role string, pods []corev1.Pod) (map[string]float64, string) {
	out := map[string]float64{}
	for i := range pods {
		if pods[i].Labels[roleLabel] != role || pods[i].Status.Phase != corev1.PodRunning {
			continue
		}
		values, err := c.scrape(ctx, &pods[i])
		if apierrors.IsForbidden(err) {
			return nil, "to see lag you need the right to get pods/proxy"
		}
		if err != nil {
			return nil, fmt.Sprintf("metrics of %s: %v", pods[i].Name, err)
		}
		for name, value := range values {
			if told[name].same {
				out[name] = max(out[name], value)
			} else {
				out[name] += value
			}
		}
	}
	return out, ""
}

func (c *cluster) scrape(ctx context.Context, pod *corev1.Pod) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	body, err := c.kube.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, opsPort, "/metrics", nil).DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	return parseMetrics(body)
}

// parseMetrics adds up the series of each metric that is told.
func parseMetrics(body []byte) (map[string]float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	out := map[string]float64{}
	for name := range told {
		family, ok := families[name]
		if !ok {
			continue
		}
		out[name] = 0
		for _, m := range family.GetMetric() {
			out[name] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return out, nil
}

// ahead is what a role has in front of it.
func (r role) ahead() string {
	if r.Unknown != "" {
		return "  (" + r.Unknown + ")"
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Metrics)) {
		value := fmt.Sprintf("%.0f", r.Metrics[name])
		if name == "atlas_search_index_complete" {
			value = map[bool]string{true: "yes", false: "no"}[r.Metrics[name] >= 1]
		}
		fmt.Fprintf(&out, "  %s: %s", told[name].words, value)
	}
	return out.String()
}
