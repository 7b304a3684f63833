//go:build linux

package faults

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	seedFlag   = flag.Uint64("faults.seed", 0, "seed of the plan; 0 draws one")
	countFlag  = flag.Int("faults.count", 12, "how many faults are injected")
	reportFlag = flag.String("faults.report", "", "file that gets the table of what was done")
)

const clients = 6

// TestFaults breaks everything at random under a workload of all kinds of writes. A failing run prints its seed, which makes the same plan again.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("needs servers of its own, about a minute")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	began := time.Now()
	log := func(format string, args ...any) {
		t.Logf("%6.1fs "+format, append([]any{time.Since(began).Seconds()}, args...)...)
	}
	log("repeat this with -faults.seed=%d -faults.count=%d", seed, *countFlag)
	p := newPlatform(t, startServers(t, "faults"), build(t, ""), "api", "api", "indexer", "indexer", "audit", "audit", "worker", "worker")
	log("the platform runs")
	w := newWorkload(p, clients+1)
	found, injector := breakAndVerify(t, p, w, seed, *countFlag, log)
	log("%d writes acknowledged, %d refused, %d without an answer", w.counts["acknowledged"], w.counts["refused"], w.counts["unanswered"])
	t.Log("\n" + injector.table())
	if *reportFlag != "" {
		require.NoError(t, os.WriteFile(*reportFlag, []byte(injector.table()), 0o600))
	}
	p.logTails(t.Failed() || len(found) > 0)
	require.Empty(t, found.first(20), "%d findings with seed %d", len(found), seed)
	require.NotZero(t, w.counts["acknowledged"])
}

// breakAndVerify lets the clients write until all faults were injected.
func breakAndVerify(t *testing.T, p *platformBundle, w *workload, seed uint64, count int, log func(string, ...any)) (findings, *injector) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for n := range clients {
		writers.Go(func() { w.run(ctx, seed, n) })
	}
	injector := newInjector(p, seed, log)
	injector.inject(ctx, count)
	stop()
	writers.Wait()
	log("all faults injected")
	return verify(p, w, settleTimeout), injector
}
