// Command atlas is Atlas's data plane: one binary with a subcommand for each role. `atlas dev` runs every role in one process.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(exitCode(err))
	}
}

func rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "atlas",
		Short:         "Atlas, an event-driven knowledge platform",
		Long:          "Atlas's data plane. Each role is a subcommand, configured by environment variables that its --help lists.",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddGroup(&cobra.Group{ID: "roles", Title: "Roles:"}, &cobra.Group{ID: "operations", Title: "To see and mend:"},
		&cobra.Group{ID: "local", Title: "On your machine:"})
	cmd.AddCommand(
		role("api", "Answer the REST API and relay events to Kafka", runAPI),
		role("indexer", "Copy items into Elasticsearch as events announce them", runIndexer),
		auditCommand(),
		role("worker", "Run background jobs", runWorker),
		role("migrate", "Bring the database to the newest schema and ensure the first admin", runMigrate),
		adminCommand(),
		checkCommand(),
		dlqCommand(),
		replayCommand(),
		devCommand(),
		demoCommand(),
	)
	return cmd
}

// role makes a subcommand that reads its configuration from the environment. A wrong environment ends it before it does anything, and every
// wrong variable is named.
func role[T interface{ log() config.Log }](name, short string, run func(context.Context, T, *slog.Logger) error) *cobra.Command {
	return &cobra.Command{
		Use:     name,
		Short:   short,
		Long:    short + ".\n\nEnvironment variables, their defaults and meanings:\n" + config.Usage[T](),
		GroupID: "roles",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load[T]()
			if err != nil {
				return err
			}
			log := cfg.log()
			logger := telemetry.NewLogger(cmd.ErrOrStderr(), log.Level, log.Format).With("role", name)
			logger.InfoContext(cmd.Context(), "starting", "version", version())
			ctx, stop, err := telemetry.StartTracing(cmd.Context(), log.Tracing.Of("atlas-"+name), logger)
			if err != nil {
				return err
			}
			err = run(ctx, cfg, logger)
			flush(cmd.Context(), stop, logger)
			if err != nil {
				return err
			}
			logger.InfoContext(cmd.Context(), "stopped")
			return nil
		},
	}
}

// flushTimeout is how long the last spans may take; with the drain it must stay below the time that a pod is given to end.
const flushTimeout = 3 * time.Second

func flush(ctx context.Context, stop func(context.Context) error, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := stop(ctx); err != nil {
		logger.WarnContext(ctx, "the last spans were not sent", "error", err)
	}
}

// version is the module's version or the commit that the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return info.Main.Version
}
