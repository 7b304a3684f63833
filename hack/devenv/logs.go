package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
)

func logsCommand(env *environment) *cobra.Command {
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show the log of a server; `status` lists their names",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := env.state()
			if err != nil {
				return err
			}
			if s, err := servers.Load(state); err == nil && s.How[args[0]] == servers.AsContainer {
				return servers.ContainerLog(cmd.Context(), state, args[0], lines, follow, cmd.OutOrStdout())
			}
			return showLog(cmd.Context(), cmd.OutOrStdout(), state, args[0], lines, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing what is added")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how many of the last lines to show")
	return cmd
}

func showLog(ctx context.Context, out io.Writer, state *process.State, name string, lines int, follow bool) error {
	path := state.LogPath(name)
	if slices.Contains(cluster.LogNames(state), name) {
		path = cluster.LogPath(state, name)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no log of %q; there are: %s", name, strings.Join(logNames(state), ", "))
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if _, err := fmt.Fprintln(out, process.Tail(path, lines)); err != nil || !follow {
		return err
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.Copy(out, f); err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func logNames(state *process.State) []string {
	files, _ := filepath.Glob(state.LogPath("*"))
	names := cluster.LogNames(state)
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".log"))
	}
	return names
}
