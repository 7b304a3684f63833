package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// finishedJobs is how long the AtlasJob is kept when it is done, in seconds.
const finishedJobs = 24 * 60 * 60

func reindexCommand(where *where) *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{
		Use: "reindex [STACK]", Short: "Rebuild the search index by an AtlasJob while search goes on, and follow it", GroupID: "change", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.connect()
			if err != nil {
				return err
			}
			job, err := c.reindex(cmd.Context(), args)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "AtlasJob %s was created\n", job.Name)
			if noWait {
				return nil
			}
			return c.follow(cmd.Context(), cmd.OutOrStdout(), job)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	return cmd
}

func (c *cluster) reindex(ctx context.Context, args []string) (*v1alpha1.AtlasJob, error) {
	stack, err := c.stack(ctx, args)
	if err != nil {
		return nil, err
	}
	ttl := int32(finishedJobs)
	job := &v1alpha1.AtlasJob{ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, GenerateName: stack.Name + "-reindex-"}}
	job.Spec.StackRef.Name = stack.Name
	job.Spec.Type, job.Spec.Reindex, job.Spec.TTLSecondsAfterFinished = v1alpha1.AtlasJobTypeReindex, &v1alpha1.ReindexJob{}, &ttl
	if err := c.Create(ctx, job, client.FieldOwner(fieldManager)); err != nil {
		return nil, fmt.Errorf("create the AtlasJob: %w", err)
	}
	return job, nil
}

// follow tells what a job does until it is done. To stop following does not stop it.
func (c *cluster) follow(ctx context.Context, out io.Writer, job *v1alpha1.AtlasJob) error {
	last := ""
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		if err := c.Get(ctx, client.ObjectKeyFromObject(job), job); err != nil {
			return false, err
		}
		if line := describeJob(job); line != last {
			last = line
			fmt.Fprintf(out, "%s  %s\n", time.Now().Format(time.TimeOnly), line)
		}
		return job.Status.CompletionTime != nil || finished(job), nil
	})
	switch {
	case wait.Interrupted(err):
		fmt.Fprintf(out, "AtlasJob %s goes on; to stop it: kubectl delete atlasjob %s -n %s\n", job.Name, job.Name, job.Namespace)
		return nil
	case err != nil:
		return fmt.Errorf("follow AtlasJob %s: %w", job.Name, err)
	case job.Status.Phase != v1alpha1.AtlasJobSucceeded:
		return errors.New("AtlasJob " + job.Name + " did not succeed")
	}
	return nil
}

func finished(job *v1alpha1.AtlasJob) bool {
	switch job.Status.Phase {
	case v1alpha1.AtlasJobSucceeded, v1alpha1.AtlasJobFailed, v1alpha1.AtlasJobCancelled:
		return true
	default:
		return false
	}
}

// describeJob is a job in a line.
func describeJob(job *v1alpha1.AtlasJob) string {
	line := string(job.Status.Phase)
	if line == "" {
		line = string(v1alpha1.AtlasJobPending)
	}
	if p := job.Status.Progress; p != nil && p.Summary != "" {
		line += "  " + p.Summary
		if p.Message != "" && !finished(job) {
			line += ", " + p.Message
		}
	}
	if e := job.Status.Error; e != nil {
		line += "  " + e.Message
	}
	return line
}
