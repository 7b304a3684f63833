// Command devenv starts and ends a development environment of real servers: PostgreSQL, Kafka, Elasticsearch and a
// Kubernetes node. It needs no configuration, and each of its commands may be repeated at any time.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the command at once
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// environment is what the commands share: which instance they are about.
type environment struct{ instance string }

func (e *environment) state() (*process.State, error) { return process.Open(e.instance) }

func rootCommand() *cobra.Command {
	env := &environment{}
	cmd := &cobra.Command{
		Use:   "devenv",
		Short: "Start and end a development environment of real servers",
		Long: `devenv starts real servers for development and tests, and a real Kubernetes node, remembers what it started, and ends
exactly that.

Addresses given in DATABASE_URL, KAFKA_BROKERS and ELASTICSEARCH_URL are used instead of starting a server.
Otherwise a server is a container when a Docker engine answers, and a local process when none does; what is missing is
downloaded into a cache outside the checkout (` + process.CacheEnv + ` moves it).

Everything listens on 127.0.0.1 only. Checkouts and instances don't disturb each other.`,
		Example: `  devenv up servers          start PostgreSQL, Kafka and Elasticsearch
  eval "$(devenv env)"       let this shell know where they are
  devenv up stack            and a Kubernetes node with Atlas on it
  devenv exec -- go test ./test/...
  devenv logs kafka -f
  devenv down                end them and remove their data`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.PersistentFlags().StringVar(&env.instance, "instance", process.DefaultInstance, "which environment of this checkout; tests use \""+process.TestInstance+"\"")
	cmd.AddCommand(
		upCommand(env), metricsCommand(env), toolsCommand(env), assetsCommand(), downCommand(env), statusCommand(env), envCommand(env), execCommand(env), logsCommand(env),
	)
	cmd.AddCommand(cluster.Commands()...)
	return cmd
}
