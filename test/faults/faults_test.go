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
	p := newPlatform(t, startServers(t, "faults"), build(t, ""), true, "api", "api", "indexer", "indexer", "audit", "audit", "worker", "worker")
	log("the platform runs")
	w := newWorkload(p, seed, clients)
	found, injector := breakAndVerify(t, p, w, seed, *countFlag, log)
	writes, short := w.table(*countFlag)
	log("%d writes acknowledged, %d refused, %d without an answer", w.count(acknowledged), w.count(refused), w.count(unanswered))
	t.Log("\n" + injector.table() + "\n" + writes)
	if *reportFlag != "" {
		require.NoError(t, os.WriteFile(*reportFlag, []byte(injector.table()+"\n"+writes), 0o600))
	}
	p.logTails(t.Failed() || len(found) > 0)
	require.Empty(t, found.first(20), "%d findings with seed %d: %v", len(found), seed, found.kinds())
	require.Empty(t, short, "too few writes of these kinds were acknowledged to tell anything")
	require.Equal(t, *countFlag, injector.count(), "faults that were done")
}

// breakAndVerify lets the clients write until all faults were injected.
func breakAndVerify(t *testing.T, p *platformBundle, w *workload, seed uint64, count int, log func(string, ...any)) (findings, *injector) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for _, c := range w.clients {
		writers.Go(func() { c.loop(ctx) })
	}
	injector := newInjector(p, seed, log)
	injector.inject(ctx, count)
	stop()
	writers.Wait()
	log("all faults injected")
	return verify(p, w, settleTimeout, nil), injector
}
