package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Labels of what the operator makes, as docs/operator.md has them.
const (
	stackLabel = "platform.atlas.dev/stack"
	roleLabel  = "app.kubernetes.io/component"
)

// loggingRoles are the values of roleLabel.
func loggingRoles() []string { return []string{"api", "indexer", "audit", "worker", "migrate"} }

// report is all that status tells about a stack.
type report struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Version   string   `json:"version,omitempty"`
	Endpoint  string   `json:"endpoint,omitempty"`
	Switches  []string `json:"switches,omitempty"` // paused, hibernating
	// Beware says how the conditions have to be read, if not as they are.
	Beware     string             `json:"beware,omitempty"`
	Conditions []metav1.Condition `json:"conditions"`
	Roles      []role             `json:"roles"`
	Jobs       []job              `json:"jobs"`
}

// role is the pods of a role and what they have in front of them.
type role struct {
	Name    string             `json:"name"`
	Desired int32              `json:"desired"`
	Ready   int32              `json:"ready"`
	Pods    []pod              `json:"pods"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Unknown says why there are no metrics.
	Unknown string `json:"unknown,omitempty"`
}

type pod struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Restarts int32     `json:"restarts"`
	Node     string    `json:"node,omitempty"`
	Started  time.Time `json:"started"`
}

type job struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	State string `json:"state"`
}

func statusCommand(where *where) *cobra.Command {
	var output string
	var all bool
	cmd := &cobra.Command{
		Use: "status [STACK]", Short: "Show a stack as a tree: conditions, pods, lag, index, jobs", GroupID: "look", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output=%q is unknown: want text or json", output)
			}
			c, err := where.connect()
			if err != nil {
				return err
			}
			stacks, err := c.chosen(cmd.Context(), args, all)
			if err != nil {
				return err
			}
			reports := make([]report, 0, len(stacks))
			for i := range stacks {
				r, err := c.report(cmd.Context(), &stacks[i])
				if err != nil {
					return err
				}
				reports = append(reports, r)
			}
			if output == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(reports)
			}
			for _, r := range reports {
				r.print(cmd.OutOrStdout(), time.Now())
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "every stack of the cluster")
	return cmd
}

func (c *cluster) chosen(ctx context.Context, args []string, all bool) ([]v1alpha1.AtlasStack, error) {
	if !all {
		stack, err := c.stack(ctx, args)
		if err != nil {
			return nil, err
		}
		return []v1alpha1.AtlasStack{*stack}, nil
	}
	if len(args) > 0 {
		return nil, fmt.Errorf("--all-namespaces shows every stack: leave out %s", args[0])
	}
	list := &v1alpha1.AtlasStackList{}
	if err := c.List(ctx, list); err != nil {
		return nil, c.explain(err)
	}
	return list.Items, nil
}

func (c *cluster) report(ctx context.Context, stack *v1alpha1.AtlasStack) (report, error) {
	out := report{
		Namespace: stack.Namespace, Name: stack.Name, Version: stack.Status.Version, Endpoint: stack.Status.Endpoint, Conditions: stack.Status.Conditions,
	}
	if stack.Spec.Paused {
		out.Switches = append(out.Switches, "paused")
	}
	out.Beware = beware(stack)
	if stack.Spec.Hibernate {
		out.Switches = append(out.Switches, "hibernates")
	}
	pods := &corev1.PodList{}
	if err := c.List(ctx, pods, client.InNamespace(stack.Namespace), client.MatchingLabels{stackLabel: stack.Name}); err != nil {
		return report{}, fmt.Errorf("list the pods: %w", err)
	}
	for _, component := range stack.Status.Components {
		r := role{Name: component.Name, Desired: component.Desired, Ready: component.Ready, Pods: []pod{}}
		r.Metrics, r.Unknown = c.metrics(ctx, component.Name, pods.Items)
		for i := range pods.Items {
			if pods.Items[i].Labels[roleLabel] == component.Name {
				r.Pods = append(r.Pods, describePod(&pods.Items[i]))
			}
		}
		out.Roles = append(out.Roles, r)
	}
	jobs := &v1alpha1.AtlasJobList{}
	if err := c.List(ctx, jobs, client.InNamespace(stack.Namespace)); err != nil {
		return report{}, fmt.Errorf("list the AtlasJobs: %w", err)
	}
	slices.SortFunc(jobs.Items, func(a, b v1alpha1.AtlasJob) int { return cmp.Compare(a.Name, b.Name) })
	out.Jobs = []job{}
	for i := range jobs.Items {
		if j := &jobs.Items[i]; j.Spec.StackRef.Name == stack.Name && !finished(j) {
			out.Jobs = append(out.Jobs, job{Name: j.Name, Type: string(j.Spec.Type), State: describeJob(j)})
		}
	}
	return out, nil
}

// beware says of what the operator does not look after that it doesn't.
func beware(stack *v1alpha1.AtlasStack) string {
	const paused = "the conditions of a paused stack are not kept up"
	ready := conditionOf(stack, v1alpha1.ConditionReady)
	switch {
	case stack.Status.ObservedGeneration <= 0 && len(stack.Status.Conditions) == 0:
		return "no operator has seen this stack: one has to run and to watch the namespace " + stack.Namespace +
			" (`kubectl get deployments -A -l " + operatorLabel + "=" + operatorName + "`; watchNamespaces in the values of its chart)"
	case !stack.Spec.Paused:
		return ""
	case ready.Reason == v1alpha1.ReasonPaused:
		return paused + ", Ready is Unknown since " + ready.LastTransitionTime.UTC().Format(time.RFC3339) + ": the others may be older than what is so now; `kubectl atlas resume " +
			stack.Name + "` has them looked at again"
	default:
		return paused + ", and no operator has seen yet that it is paused"
	}
}

func describePod(p *corev1.Pod) pod {
	out := pod{Name: p.Name, State: string(p.Status.Phase), Node: p.Spec.NodeName, Started: p.CreationTimestamp.Time}
	if !p.DeletionTimestamp.IsZero() {
		out.State = "Terminating"
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		out.Restarts += c.RestartCount
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			out.State = w.Reason
		}
	}
	return out
}

func (r report) print(out io.Writer, now time.Time) {
	ready := conditionIn(r.Conditions, v1alpha1.ConditionReady)
	fmt.Fprintf(out, "AtlasStack %s/%s  %s  %s\n", r.Namespace, r.Name, mark(ready.Status), strings.Join(append([]string{ready.Message}, r.Switches...), "; "))
	if r.Endpoint != "" {
		fmt.Fprintf(out, "│  version %s  %s\n", r.Version, r.Endpoint)
	}
	if r.Beware != "" {
		fmt.Fprintf(out, "│  ! %s\n", r.Beware)
	}
	for _, c := range r.Conditions {
		if c.Type != v1alpha1.ConditionReady {
			fmt.Fprintf(out, "├─ %s %s  %s\n", mark(c.Status), c.Type, c.Message)
		}
	}
	for _, role := range r.Roles {
		fmt.Fprintf(out, "├─ %s %s  %d of %d ready%s\n", mark(truth(role.Ready >= role.Desired)), role.Name, role.Ready, role.Desired, role.ahead())
		for i, p := range role.Pods {
			branch := "├─"
			if i == len(role.Pods)-1 {
				branch = "└─"
			}
			fmt.Fprintf(out, "│  %s %s  %s  restarts %d  %s old\n", branch, p.Name, p.State, p.Restarts, duration.HumanDuration(now.Sub(p.Started)))
		}
	}
	fmt.Fprintf(out, "└─ jobs that are not done: %d\n", len(r.Jobs))
	for _, j := range r.Jobs {
		fmt.Fprintf(out, "   • %s  %s  %s\n", j.Name, j.Type, j.State)
	}
}

// mark makes a condition visible without colours.
func mark(status metav1.ConditionStatus) string {
	switch status {
	case metav1.ConditionTrue:
		return "✓"
	case metav1.ConditionFalse:
		return "✗"
	default:
		return "?"
	}
}

func truth(is bool) metav1.ConditionStatus {
	if is {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

func conditionOf(stack *v1alpha1.AtlasStack, kind string) metav1.Condition {
	return conditionIn(stack.Status.Conditions, kind)
}

// conditionIn is a condition, or one that says that the operator has not been here.
func conditionIn(conditions []metav1.Condition, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown, Message: "the operator has not looked at it yet"}
}
