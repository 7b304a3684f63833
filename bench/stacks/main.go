// Command stacks measures the operator with many AtlasStacks, on a real API server: how long they take to become Ready, what the operator costs then and afterwards, whether
// a Kafka that does not answer slows other stacks, and what a restart changes. The API server, etcd and the operator are real processes. Kafka and Elasticsearch are
// stand-ins, and so are the controllers for Jobs and Deployments: no pod runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// Flux's published figure for 1,000 Kustomizations (flux-benchmark, v2.4: 4m15s, 175 Mi), and the bounds that Atlas has set itself.
const (
	fluxTime     = 4*time.Minute + 15*time.Second
	mostMemory   = 256 << 20
	mostReads    = 1.0
	mostPassTime = 20 * time.Millisecond
)

type options struct {
	operator   string
	crds, role string
	stacks     int
	namespaces int
	steady     time.Duration
	dead       int
	node       int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stacks:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var o options
	flag.StringVar(&o.operator, "operator", "bin/operator", "the program to measure")
	flag.StringVar(&o.crds, "crds", "config/crd", "folder of the CRDs")
	flag.StringVar(&o.role, "role", "config/rbac/role.yaml", "the operator's role, all that it may do")
	flag.IntVar(&o.stacks, "stacks", 1000, "how many AtlasStacks")
	flag.IntVar(&o.namespaces, "namespaces", 50, "in how many namespaces")
	flag.DurationVar(&o.steady, "steady", 3*time.Minute, "how long to watch the operator when all are Ready")
	flag.IntVar(&o.dead, "dead", 30, "stacks whose Kafka takes connections and says nothing")
	flag.IntVar(&o.node, "node", 0, "instead, measure so many with pods, on the cluster of KUBECONFIG, with the servers of its stack and DATABASE_URL")
	flag.Parse()
	if o.node > 0 {
		return node(ctx, o)
	}

	w, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	fmt.Printf("%d processors, %s, %d AtlasStacks in %d namespaces\n\n| | | wanted |\n|---|---|---|\n", runtime.NumCPU(), runtime.Version(), o.stacks, o.namespaces)
	for _, measure := range []func(context.Context, options) error{w.converge, w.rest, w.beside, w.restart} {
		if err := measure(ctx, o); err != nil {
			return err
		}
	}
	if w.missed > 0 {
		return fmt.Errorf("%d figures are missed", w.missed)
	}
	return nil
}

// tell prints a figure and whether it holds.
func (w *world) tell(what, figure, wanted string, holds bool) {
	if !holds {
		w.missed++
		wanted += " (missed)"
	}
	fmt.Printf("| %s | %s | %s |\n", what, figure, wanted)
}
