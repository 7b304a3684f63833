package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
	"github.com/atlas-platform/atlas/internal/envfile"
)

func statusCommand(env *environment) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what runs, where, since when and how big it is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := env.state()
			if err != nil {
				return err
			}
			rows, err := statusRows(state)
			if err != nil {
				return err
			}
			if quiet {
				if !running(rows) {
					return errNothingRuns
				}
				return nil
			}
			var table strings.Builder
			table.WriteString("NAME\tSTATE\tPID\tADDRESS\tUPTIME\tMEMORY\n")
			for _, r := range rows {
				table.WriteString(strings.Join([]string{r.name, r.state, r.pid, r.address, r.uptime, r.memory}, "\t") + "\n")
			}
			if len(rows) == 0 {
				table.Reset()
				table.WriteString("nothing runs; start it with: devenv up\n")
			}
			out := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			if _, err := out.Write([]byte(table.String())); err != nil {
				return err
			}
			return out.Flush()
		},
	}
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print nothing and fail when nothing runs")
	return cmd
}

var errNothingRuns = errors.New("nothing runs")

func running(rows []statusRow) bool {
	return slices.ContainsFunc(rows, func(r statusRow) bool { return r.state != "dead" })
}

type statusRow struct{ name, state, pid, address, uptime, memory string }

func statusRows(state *process.State) ([]statusRow, error) {
	procs, err := state.List()
	if err != nil {
		return nil, err
	}
	var rows []statusRow
	for _, p := range procs {
		row := statusRow{name: p.Name, state: "dead", pid: "-", address: p.Address, uptime: "-", memory: "-"}
		if p.Alive() {
			row.state, row.pid = "running", strconv.Itoa(p.PID)
			row.uptime = time.Since(p.StartedAt).Round(time.Second).String()
			row.memory = fmt.Sprintf("%d MiB", p.Memory()>>20)
		}
		rows = append(rows, row)
	}
	s, err := servers.Load(state)
	if errors.Is(err, fs.ErrNotExist) {
		return rows, nil
	}
	if err != nil {
		return nil, err
	}
	addresses := map[string]string{"postgres": hostOf(s.DatabaseURL), "kafka": s.KafkaBrokers, "elasticsearch": hostOf(s.ElasticsearchURL)}
	for _, name := range []string{"postgres", "kafka", "elasticsearch"} {
		if how := s.How[name]; how != servers.AsProcess {
			rows = append(rows, statusRow{name: name, state: how, pid: "-", address: addresses[name], uptime: "-", memory: "-"})
		}
	}
	return rows, nil
}

// hostOf leaves credentials out.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "?"
	}
	return u.Host
}

func envCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "env",
		Short:   "Print the addresses as shell assignments",
		Example: `  eval "$(devenv env)"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			vars, err := env.vars()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), envfile.Format(vars))
			return err
		},
	}
}
