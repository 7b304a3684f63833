package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// fieldManager is who changes a stack, in its managedFields.
const fieldManager = "kubectl-atlas"

// poll is how often a waiting command looks.
const poll = time.Second

// change is one change of a stack's spec; it says what came of it.
type change func(spec *v1alpha1.AtlasStackSpec) string

func pause(on bool) change {
	return func(spec *v1alpha1.AtlasStackSpec) string {
		spec.Paused = on
		if on {
			return "paused: the operator leaves everything as it is until `kubectl atlas resume`"
		}
		return "resumed"
	}
}

func hibernate(on bool) change {
	return func(spec *v1alpha1.AtlasStackSpec) string {
		spec.Hibernate = on
		if on {
			return "hibernates: its pods end, its data stays; `kubectl atlas wake` brings it back"
		}
		return "wakes up"
	}
}

func switchCommand(where *where, name, short string, change change) *cobra.Command {
	return &cobra.Command{
		Use: name + " [STACK]", Short: short, GroupID: "change", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.connect()
			if err != nil {
				return err
			}
			said, err := c.change(cmd.Context(), args, change)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), said)
			return nil
		},
	}
}

// change changes a stack's spec.
func (c *cluster) change(ctx context.Context, args []string, change change) (string, error) {
	stack, err := c.stack(ctx, args)
	if err != nil {
		return "", err
	}
	before := stack.DeepCopy()
	said := change(&stack.Spec)
	if err := c.Patch(ctx, stack, client.MergeFrom(before), client.FieldOwner(fieldManager)); err != nil {
		return "", fmt.Errorf("change AtlasStack %s: %w", stack.Name, err)
	}
	if stack.ResourceVersion == before.ResourceVersion {
		said = "was so already"
	}
	return fmt.Sprintf("AtlasStack %s %s", stack.Name, said), nil
}

func reconcileCommand(where *where) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "reconcile [STACK]", Short: "Have the operator look at a stack now, Kafka and Elasticsearch included, and wait until it has",
		GroupID: "change", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.connect()
			if err != nil {
				return err
			}
			stack, err := c.reconcile(cmd.Context(), args, timeout)
			if err != nil {
				return err
			}
			ready := conditionOf(stack, v1alpha1.ConditionReady)
			fmt.Fprintf(cmd.OutOrStdout(), "AtlasStack %s was looked at. Ready: %s, %s\n", stack.Name, ready.Status, ready.Message)
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the operator")
	return cmd
}

// reconcile asks for a pass and waits until it is over.
func (c *cluster) reconcile(ctx context.Context, args []string, timeout time.Duration) (*v1alpha1.AtlasStack, error) {
	stack, err := c.stack(ctx, args)
	if err != nil {
		return nil, err
	}
	if stack.Spec.Paused {
		return nil, fmt.Errorf("AtlasStack %s is paused: `kubectl atlas resume` first", stack.Name)
	}
	before := stack.DeepCopy()
	if stack.Annotations == nil {
		stack.Annotations = map[string]string{}
	}
	requested := time.Now().UTC().Format(time.RFC3339Nano)
	stack.Annotations[v1alpha1.ReconcileRequestAnnotation] = requested
	if err := c.Patch(ctx, stack, client.MergeFrom(before), client.FieldOwner(fieldManager)); err != nil {
		return nil, fmt.Errorf("ask for AtlasStack %s: %w", stack.Name, err)
	}
	err = wait.PollUntilContextTimeout(ctx, poll/4, timeout, false, func(ctx context.Context) (bool, error) {
		if err := c.Get(ctx, client.ObjectKeyFromObject(stack), stack); err != nil {
			return false, err
		}
		return stack.Status.LastHandledReconcileAt == requested, nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return nil, fmt.Errorf("the operator did not look at AtlasStack %s within %s: does it run, and does it watch namespace %s?", stack.Name, timeout, stack.Namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for the operator: %w", err)
	}
	return stack, nil
}
