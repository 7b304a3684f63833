package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// mostStreams is how many pods are followed at once.
const mostStreams = 50

func logsCommand(where *where) *cobra.Command {
	var follow, previous bool
	var since time.Duration
	var tail int64
	var roles []string
	cmd := &cobra.Command{
		Use: "logs [STACK]", Short: "Show the logs of a stack's pods together, each line with its pod", GroupID: "look", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.connect()
			if err != nil {
				return err
			}
			stack, err := c.stack(cmd.Context(), args)
			if err != nil {
				return err
			}
			options := &corev1.PodLogOptions{Follow: follow, Previous: previous, Container: "atlas"}
			if since > 0 {
				seconds := int64(since.Seconds())
				options.SinceSeconds = &seconds
			}
			if tail >= 0 {
				options.TailLines = &tail
			}
			return c.logs(cmd.Context(), cmd.OutOrStdout(), stack, roles, options)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new lines until Ctrl-C")
	cmd.Flags().BoolVarP(&previous, "previous", "p", false, "those of the containers before their last restart")
	cmd.Flags().DurationVar(&since, "since", 0, "only lines that are not older")
	cmd.Flags().Int64Var(&tail, "tail", 100, "the last lines of each pod; -1 for all")
	cmd.Flags().StringSliceVar(&roles, "role", nil, "only these roles: "+strings.Join(loggingRoles(), ", "))
	return cmd
}

// logs copies the lines of every pod to out.
func (c *cluster) logs(ctx context.Context, out io.Writer, stack *v1alpha1.AtlasStack, roles []string, options *corev1.PodLogOptions) error {
	for _, role := range roles {
		if !slices.Contains(loggingRoles(), role) {
			return fmt.Errorf("there is no role %q: the roles are %s", role, strings.Join(loggingRoles(), ", "))
		}
	}
	pods := &corev1.PodList{}
	if err := c.List(ctx, pods, client.InNamespace(stack.Namespace), client.MatchingLabels{stackLabel: stack.Name}); err != nil {
		return fmt.Errorf("list the pods: %w", err)
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		return len(roles) > 0 && !slices.Contains(roles, p.Labels[roleLabel])
	})
	if len(pods.Items) == 0 {
		if len(roles) > 0 {
			return fmt.Errorf("AtlasStack %s has no pod of the role %s now: `kubectl atlas status` shows what runs", stack.Name, strings.Join(roles, " or "))
		}
		return fmt.Errorf("AtlasStack %s has no pod now: `kubectl atlas status` says why", stack.Name)
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mostStreams)
	for i := range pods.Items {
		name := pods.Items[i].Name
		group.Go(func() error {
			stream, err := c.kube.CoreV1().Pods(stack.Namespace).GetLogs(name, options).Stream(ctx)
			if err != nil {
				// One pod that has not started yet hides the others' logs from nobody.
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(out, "%s | (no log: %v)\n", name, err)
				return nil
			}
			defer func() { _ = stream.Close() }()
			return copyLines(ctx, out, &mu, name, stream)
		})
	}
	return group.Wait()
}

func copyLines(ctx context.Context, out io.Writer, mu *sync.Mutex, name string, in io.Reader) error {
	reader := bufio.NewReader(in)
	for {
		line, err := reader.ReadString('\n')
		if line != "" {
			mu.Lock()
			_, failed := fmt.Fprintf(out, "%s | %s\n", name, trimNewline(line))
			mu.Unlock()
			if failed != nil {
				return fmt.Errorf("write the logs: %w", failed)
			}
		}
		switch {
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return nil //nolint:nilerr // the end, or Ctrl-C
		case err != nil:
			return fmt.Errorf("read the log of %s: %w", name, err)
		}
	}
}

func trimNewline(line string) string {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		return line[:n-1]
	}
	return line
}
