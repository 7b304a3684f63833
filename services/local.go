package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/services/demo"
	"github.com/atlas-platform/atlas/services/dev"
)

const (
	envFile     = ".run/env"
	demoEnvFile = ".run/demo.env"
)

func devCommand() *cobra.Command {
	var o dev.Options
	var logLevel string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run all of Atlas in this process, without root, Java or a cluster",
		Long: `Run all of Atlas in this process: every role, an embedded PostgreSQL, and an embedded broker that speaks Kafka's protocol.
Search is PostgreSQL's. The data survives a restart. Nothing listens outside 127.0.0.1.`,
		GroupID: "local",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if new(slog.Level).UnmarshalText([]byte(logLevel)) != nil {
				return fmt.Errorf("--log-level=%q is unknown: want debug, info, warn or error", logLevel)
			}
			if o.Folder == "" {
				folder, err := dev.DefaultFolder()
				if err != nil {
					return err
				}
				o.Folder = folder
			}
			folder, err := filepath.Abs(o.Folder)
			if err != nil {
				return fmt.Errorf("use the folder %s: %w", o.Folder, err)
			}
			o.Folder = folder
			o.FallBack = !cmd.Flags().Changed("listen")
			o.Out = cmd.OutOrStdout()
			o.Logger = telemetry.NewLogger(cmd.ErrOrStderr(), logLevel, "text")
			return dev.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Folder, "data", "", "folder that keeps the data (default: your user's data folder)")
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:8080", "address of the REST API; without this flag another port is taken when 8080 is in use")
	cmd.Flags().StringVar(&o.EnvFile, "env-file", envFile, "file that gets the addresses and the admin's login")
	cmd.Flags().StringVar(&logLevel, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

func demoCommand() *cobra.Command {
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Load real Markdown documents into a running Atlas as an ordinary user, then search them",
		GroupID: "local",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.URL == "" {
				url, err := atlasURL()
				if err != nil {
					return err
				}
				o.URL = url
			}
			if o.Documents < 1 || o.Concurrency < 1 {
				return errors.New("--documents and --concurrency must be at least 1")
			}
			o.Out = cmd.OutOrStdout()
			o.Terminal = term.IsTerminal(int(os.Stdout.Fd()))
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.URL, "url", "", "URL of the API (default: ATLAS_URL, from the environment or from "+envFile+")")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "folder of Markdown files (default: the Go module cache)")
	cmd.Flags().IntVar(&o.Documents, "documents", 1200, "how many documents to load")
	cmd.Flags().IntVar(&o.Concurrency, "concurrency", 4, "how many requests are under way at once")
	cmd.Flags().StringVar(&o.CredentialsFile, "credentials-file", demoEnvFile, "file that gets the demo user's login")
	return cmd
}

// atlasURL is where the last `make up` or `make dev` said that Atlas is.
func atlasURL() (string, error) {
	if url := os.Getenv("ATLAS_URL"); url != "" {
		return url, nil
	}
	file, err := os.Open(envFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no running Atlas is known: start one with `make up` or `make dev`, or give its --url")
	}
	if err != nil {
		return "", fmt.Errorf("look for a running Atlas: %w", err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if value, ok := strings.CutPrefix(scanner.Text(), "ATLAS_URL="); ok {
			return strings.Trim(value, `'"`), nil
		}
	}
	return "", fmt.Errorf("%s does not say ATLAS_URL: start Atlas again, or give its --url", envFile)
}
