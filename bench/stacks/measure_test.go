package main

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

// TestQuantile also where the histogram made its buckets wider between the scrapes.
func TestQuantile(t *testing.T) {
	t.Parallel()
	passes := prometheus.NewHistogram(prometheus.HistogramOpts{NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100})
	scrape := func() *dto.Histogram {
		var m dto.Metric
		require.NoError(t, passes.Write(&m))
		return m.GetHistogram()
	}
	for range 1000 {
		passes.Observe(1)
	}
	before := scrape()
	for i := range 1000 {
		passes.Observe(float64(i+1) * 20e-6) // 20 ms at most
	}
	n, p99 := quantile(before, scrape(), 0.99)
	require.EqualValues(t, 1000, n)
	require.InEpsilon(t, 19.8*float64(time.Millisecond), float64(p99), 0.05)

	for e := range 80 {
		passes.Observe(math.Exp2(float64(e - 40)))
	}
	after := scrape()
	require.Less(t, after.GetSchema(), before.GetSchema())
	n, median := quantile(before, after, 0.5)
	require.EqualValues(t, 1080, n)
	require.InEpsilon(t, 10*float64(time.Millisecond), float64(median), 0.1)
}
