package atlasstack

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

const (
	// endingPoll is how often pods that end are looked at: no watch tells of them.
	endingPoll = 2 * time.Second
	// namedPods is how many of them a message names.
	namedPods = 5
)

// fallAsleep waits for the last pod of a stack that hibernates. A Deployment does not count the pods that are ending, and those still use the database, Kafka and
// Elasticsearch, which may be switched off once the stack is Ready. It is asked only until WorkloadsReady is True, so that a stack at rest costs no reads.
func (r *Reconciler) fallAsleep(ctx context.Context, p *pass) error {
	jobs := &batchv1.JobList{}
	err := r.Reader.List(ctx, jobs, client.InNamespace(p.stack.Namespace), client.MatchingLabels(workloads.Labels(p.stack, workloads.RoleMigrate)))
	if err != nil {
		return fmt.Errorf("list migration Jobs: %w", err)
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		if !metav1.IsControlledBy(job, p.stack) || !job.DeletionTimestamp.IsZero() || jobCondition(job, batchv1.JobComplete) != nil || jobCondition(job, batchv1.JobFailed) != nil {
			continue
		}
		why, err := r.explainJob(ctx, p, job)
		if err != nil {
			return err
		}
		if why != "" {
			why = " (" + why + ")"
		}
		return pending(fmt.Sprintf("waiting for migration Job %s to end%s; delete it if it is not to go on", job.Name, why))
	}
	left, err := r.livePods(ctx, p.stack)
	if err != nil || left == "" {
		return err
	}
	return pending("waiting for " + left)
}

func pending(message string) error {
	return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: message, After: endingPoll}
}

// livePods names the pods of the roles and of the migration that have not ended, "" when there are none.
func (r *Reconciler) livePods(ctx context.Context, stack *v1alpha1.AtlasStack) (string, error) {
	roles := []string{string(workloads.RoleMigrate)}
	for _, role := range workloads.Roles() {
		roles = append(roles, string(role))
	}
	ofRoles, err := labels.NewRequirement(workloads.ComponentLabel, selection.In, roles)
	if err != nil {
		return "", fmt.Errorf("select the pods of the roles: %w", err)
	}
	pods := &corev1.PodList{}
	err = r.Reader.List(ctx, pods, client.InNamespace(stack.Namespace), client.Limit(maxPods),
		client.MatchingLabelsSelector{Selector: labels.SelectorFromSet(labels.Set{workloads.StackLabel: stack.Name}).Add(*ofRoles)},
		client.MatchingFieldsSelector{Selector: fields.AndSelectors(
			fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)), fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
		)})
	if err != nil {
		return "", fmt.Errorf("list pods: %w", err)
	}
	return namePods(pods), nil
}

// namePods says how many pods have to end, and which.
func namePods(pods *corev1.PodList) string {
	var names []string
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
	}
	slices.Sort(names)
	count, more := fmt.Sprintf("%d pods", len(names)), ""
	switch {
	case len(names) == 0:
		return ""
	case len(names) == 1:
		count = "1 pod"
	case pods.Continue != "":
		count = "more than " + count
	}
	if len(names) > namedPods {
		names, more = names[:namedPods], " and others"
	}
	return fmt.Sprintf("%s to end: %s%s", count, strings.Join(names, ", "), more)
}
