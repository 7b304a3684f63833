// Command operator turns AtlasStacks into running platforms, AtlasJobs into jobs of their REST API, and AtlasSchedules into AtlasJobs.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/atlasjob"
	"github.com/atlas-platform/atlas/controllers/atlasschedule"
	"github.com/atlas-platform/atlas/controllers/atlasstack"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
)

// eventSource is the reporting controller of the operator's events.
const eventSource = "atlas-operator"

// shutdownTimeout is how long reconciliations that run may take to finish after SIGTERM.
const shutdownTimeout = 20 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "operator:", err)
		os.Exit(1)
	}
}

type options struct {
	metricsAddress string
	probeAddress   string
	leaderElect    bool
	namespaces     []string
	logLevel       slog.Level
	// electionNamespace has the lease; empty means the pod's own.
	electionNamespace string
	// leftOut are those of the namespaces that may not be read, and namespacesAgain is how often they are looked at again.
	leftOut         []string
	namespacesAgain time.Duration
	// another lets there be another manager in the process, for a test.
	another bool
}

func parse(args []string) (options, error) {
	o := options{namespacesAgain: namespacesAgain}
	var namespaces string
	flags := flag.NewFlagSet("operator", flag.ContinueOnError)
	flags.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address of /metrics; 0 turns it off")
	flags.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "let only one of several operators work")
	flags.StringVar(&namespaces, "watch-namespaces", "", "comma-separated namespaces to look after; empty means all")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		return options{}, fmt.Errorf("read the flags: %w", err)
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for namespace := range strings.SplitSeq(namespaces, ",") {
		if namespace = strings.TrimSpace(namespace); namespace != "" {
			o.namespaces = append(o.namespaces, namespace)
		}
	}
	return o, nil
}

func run(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: o.logLevel})
	ctrl.SetLogger(logr.FromSlogHandler(handler))
	limitMemory(limitFiles)

	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	ctx := ctrl.SetupSignalHandler()
	if err := o.leaveOut(ctx, config); err != nil {
		return err
	}
	mgr, err := manager(o, config)
	if err != nil {
		return err
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("run the operator: %w", err)
	}
	return nil
}

// ownNamespace is where the operator's pod is; empty outside a cluster.
func ownNamespace() string {
	content, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

func kinds() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register the kinds: %w", err)
		}
	}
	return scheme, nil
}

func manager(o options, config *rest.Config) (ctrl.Manager, error) {
	scheme, err := kinds()
	if err != nil {
		return nil, err
	}
	cacheOptions, err := atlasstack.CacheOptions(o.namespaces...)
	if err != nil {
		return nil, err
	}
	grace := shutdownTimeout
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                  scheme,
		Cache:                   cacheOptions,
		Metrics:                 metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:  o.probeAddress,
		GracefulShutdownTimeout: &grace,
		Controller:              ctrlconfig.Controller{SkipNameValidation: &o.another},
		LeaderElection:          o.leaderElect,
		LeaderElectionID:        "operator.platform.atlas.dev",
		LeaderElectionNamespace: o.electionNamespace,
		// The process ends right after the manager does, so a successor need not wait for the lease to run out.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	if len(o.leftOut) > 0 {
		if err := mgr.Add(&latecomers{namespaces: o.leftOut, api: mgr.GetAPIReader(), again: o.namespacesAgain}); err != nil {
			return nil, fmt.Errorf("wait for namespaces: %w", err)
		}
	}
	stacks := &atlasstack.Reconciler{
		Client:       mgr.GetClient(),
		Reader:       mgr.GetAPIReader(),
		Recorder:     mgr.GetEventRecorder(eventSource),
		ConnectTopic: topic.ConnectSarama,
		ConnectIndex: template.ConnectElasticsearch,
		Namespace:    ownNamespace(),
	}
	if err := stacks.SetupWithManager(mgr); err != nil {
		return nil, err
	}
	jobs := &atlasjob.Reconciler{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder(eventSource)}
	if err := jobs.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("set up the AtlasJob controller: %w", err)
	}
	schedules := &atlasschedule.Reconciler{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder(eventSource)}
	if err := schedules.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("set up the AtlasSchedule controller: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("add the liveness check: %w", err)
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("add the readiness check: %w", err)
	}
	return mgr, nil
}
