package atlasstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// How long after a stack was deleted each part of its end is waited for. What isn't done by then is left behind.
const (
	// headStart is how old a deletion is at most, for all of these, when an operator first sees it. One that was away has asked for nothing yet.
	headStart = time.Minute
	// secretPatience is for credentials that were deleted before the stack, with its namespace for example.
	secretPatience = 30 * time.Second
	jobsPatience   = 2 * time.Minute
	podsPatience   = 4 * time.Minute
	// cleanupPatience bounds the whole.
	cleanupPatience = 5 * time.Minute
	// busyPatience comes on top, while others keep the server from being asked at all.
	busyPatience = time.Minute
	cleanupPoll  = 2 * time.Second
)

// Reasons of the Events that tell how a stack ended.
const (
	reasonCleanedUp  = "CleanedUp"
	reasonLeftBehind = "LeftBehind"
)

// ending is what is found out about the end of one stack.
type ending struct {
	*pass

	until   time.Time     // when the whole has taken long enough
	age     time.Duration // how long it takes already
	waiting []string      // what is waited for
	left    []string      // what stays, where, and why
	after   time.Duration
}

// terminate does what a stack's deletion asks for, in this order: its jobs are cancelled while its API runs; its pods end, so that none makes topic or
// index again; topic and index are deleted, as far as the spec wants it. It lets go of the stack once that is done or took too long.
func (r *Reconciler) terminate(ctx context.Context, before *v1alpha1.AtlasStack) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(before, v1alpha1.CleanupFinalizer) {
		return ctrl.Result{}, nil // the garbage collector removes what the stack owns
	}
	p := &pass{stack: before.DeepCopy(), failed: map[string]error{}, inputs: workloads.Inputs{}, memory: r.memory.of(before)}
	now, began := r.now(), before.DeletionTimestamp.Time
	if p.memory.deleted.IsZero() {
		p.memory.deleted = now
	}
	if seen := p.memory.deleted.Add(-headStart); began.Before(seen) {
		began = seen
	}
	e := &ending{pass: p, until: began.Add(cleanupPatience), age: now.Sub(began), after: cleanupPoll}
	switch {
	case before.Annotations[v1alpha1.SkipCleanupAnnotation] == "true":
		e.leave("the annotation " + v1alpha1.SkipCleanupAnnotation + " says so")
	case before.Spec.Paused:
		e.leave("spec.paused is true")
	default:
		if err := r.end(ctx, e); err != nil && e.age < cleanupPatience {
			return ctrl.Result{}, err
		} else if err != nil {
			e.waiting, e.left = nil, nil
			e.leave(err.Error())
		}
	}
	if len(e.waiting) == 0 {
		return ctrl.Result{}, r.letGo(ctx, e)
	}
	summarizeTerminating(e)
	err := r.patchStatus(ctx, before, e.stack)
	if r.barred(ctx, e, err) {
		err = nil
	}
	return ctrl.Result{RequeueAfter: wait.Jitter(e.after, jitter)}, err
}

// end goes as far as it can.
func (r *Reconciler) end(ctx context.Context, e *ending) error {
	if err := r.cancelJobs(ctx, e); err != nil || len(e.waiting) > 0 && e.age < jobsPatience {
		return err
	}
	e.waiting = nil // the AtlasJobs say themselves what becomes of their jobs
	if !dropsTopic(e.stack) && !dropsIndex(e.stack) {
		return nil
	}
	err := r.endPods(ctx, e)
	if r.barred(ctx, e, err) {
		r.awaitUnseen(ctx, e)
		err = nil
	}
	if err != nil || len(e.waiting) > 0 && e.age < podsPatience {
		return err
	}
	return r.dropData(ctx, e)
}

// dropsTopic and dropsIndex are false for a stack that never had one: what never was a stack's is not deleted with it.
func dropsTopic(stack *v1alpha1.AtlasStack) bool {
	return stack.Spec.Kafka.DeletionPolicy == v1alpha1.DeletionDelete && stack.Status.Topic != nil
}

func dropsIndex(stack *v1alpha1.AtlasStack) bool {
	return stack.Spec.Elasticsearch.DeletionPolicy == v1alpha1.DeletionDelete && stack.Status.SearchIndex != nil
}

// cancelJobs deletes the AtlasJobs whose jobs may run, which cancels those. They stay until that is done.
func (r *Reconciler) cancelJobs(ctx context.Context, e *ending) error {
	jobs, err := r.heldJobs(ctx, client.ObjectKeyFromObject(e.stack))
	if err != nil {
		return err
	}
	for i := range jobs {
		job := &jobs[i]
		e.waiting = append(e.waiting, "AtlasJob "+job.Name+" is being cancelled")
		if !job.DeletionTimestamp.IsZero() {
			continue
		}
		err := r.Client.Delete(ctx, job, client.Preconditions{UID: &job.UID})
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) && !r.barred(ctx, e, err) {
			return fmt.Errorf("delete AtlasJob %s: %w", job.Name, err)
		}
	}
	return nil
}

// endPods deletes what makes pods, and waits for the last pod.
func (r *Reconciler) endPods(ctx context.Context, e *ending) error {
	for _, role := range workloads.Roles() {
		live := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: e.stack.Namespace, Name: workloads.Name(e.stack, role)}}
		gone, err := r.applier.Remove(ctx, e.stack, live)
		if err != nil {
			return err
		}
		if !gone {
			e.waiting = append(e.waiting, "Deployment "+live.Name+" is being deleted")
		}
	}
	jobs := &batchv1.JobList{}
	err := r.Client.List(ctx, jobs, client.InNamespace(e.stack.Namespace), client.MatchingLabels(workloads.Labels(e.stack, workloads.RoleMigrate)))
	if err != nil {
		return fmt.Errorf("list migration Jobs: %w", err)
	}
	for i := range jobs.Items {
		own, err := r.applier.Owns(ctx, e.stack, &jobs.Items[i])
		if err == nil && own {
			err = r.deleteJob(ctx, &jobs.Items[i])
		}
		if err != nil {
			return err
		}
	}
	pods := &corev1.PodList{}
	err = r.Reader.List(ctx, pods, client.InNamespace(e.stack.Namespace), client.MatchingLabels{workloads.StackLabel: e.stack.Name}, client.Limit(maxPods))
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		if phase := pods.Items[i].Status.Phase; phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			e.waiting = append(e.waiting, "pod "+pods.Items[i].Name+" is ending")
		}
	}
	return nil
}

// dropData deletes topic and index. Neither waits for the other.
func (r *Reconciler) dropData(ctx context.Context, e *ending) error {
	e.waiting = nil
	if dropsTopic(e.stack) {
		if err := r.settle(ctx, e, "kafka", topicName(e.stack), r.dropTopic); err != nil {
			return err
		}
	}
	if dropsIndex(e.stack) {
		return r.settle(ctx, e, "elasticsearch", indexName(e.stack), r.dropIndex)
	}
	return nil
}

// settle notes what becomes of one deletion: done, waited for, or given up.
func (r *Reconciler) settle(ctx context.Context, e *ending, server, what string, drop func(context.Context, *pass) error) error {
	missing, err := r.readCredentials(ctx, e.pass, server)
	if err != nil {
		return err
	}
	if missing != "" && e.age < secretPatience {
		e.waiting = append(e.waiting, missing)
		return nil
	} else if missing != "" {
		e.left = append(e.left, what+" ("+missing+")")
		return nil
	}
	err = drop(ctx, e.pass)
	if err == nil {
		return nil
	}
	if stalled, ok := apply.AsStalled(err); ok {
		e.left = append(e.left, what+" ("+stalled.Message+")")
		return nil
	}
	patience := cleanupPatience
	if errors.As(err, &busy{}) {
		patience += busyPatience
	}
	if waiting, ok := apply.AsWaiting(err); ok && e.age < patience {
		e.waiting = append(e.waiting, waiting.Message)
		if waiting.After > 0 {
			e.after = min(e.after, waiting.After)
		}
		return nil
	}
	if e.age < cleanupPatience {
		return err
	}
	e.left = append(e.left, what+" ("+err.Error()+")")
	return nil
}

// leave notes that everything that there is to delete stays.
func (e *ending) leave(why string) {
	stack := e.stack
	if dropsTopic(stack) {
		e.left = append(e.left, topicName(stack)+" ("+why+")")
	}
	if dropsIndex(stack) {
		e.left = append(e.left, indexName(stack)+" ("+why+")")
	}
}

func topicName(stack *v1alpha1.AtlasStack) string {
	has := stack.Status.Topic
	return fmt.Sprintf("the topics %s and %s and the consumer groups %s of Kafka %s at %s", has.Name, deadLetters(has.Name),
		strings.Join(groups(has.Name), " and "), has.ClusterID, strings.Join(stack.Spec.Kafka.Brokers, ", "))
}

func indexName(stack *v1alpha1.AtlasStack) string {
	where := strings.Join(stack.Spec.Elasticsearch.Addresses, ", ")
	if where == "" {
		where = "Elastic Cloud"
	}
	return fmt.Sprintf("the indices %[1]s-*-* behind alias %[1]s and the index template %[1]s-template of Elasticsearch %[2]s at %[3]s",
		stack.Status.SearchIndex.Alias, stack.Status.SearchIndex.ClusterUUID, where)
}

// groups are the consumer groups of a topic: their prefix is its name.
func groups(name string) []string {
	return []string{name + "-" + string(workloads.RoleIndexer), name + "-" + string(workloads.RoleAudit)}
}

// dropTopic deletes the topics and consumer groups that the stack has.
func (r *Reconciler) dropTopic(ctx context.Context, p *pass) error {
	had := p.stack.Status.Topic
	if err := r.wantedByOther(ctx, p.stack, append(topicClaims(p.stack), topicKeys("on", had.ClusterID, had.Name)...)); err != nil {
		return err
	}
	target := kafkaTarget(p)
	return r.gates.ask(kafkaServer(target), digest(target), func() error { return r.dropTopicOf(ctx, target, had) })
}

func (r *Reconciler) dropTopicOf(ctx context.Context, target topic.Target, had *v1alpha1.TopicStatus) error {
	admin, err := r.ConnectTopic(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }()
	id, err := admin.ClusterID(ctx)
	if err != nil {
		return err
	}
	if id != had.ClusterID {
		return &apply.Stalled{Message: "kafka.brokers lead to another Kafka by now, " + id}
	}
	return topic.Drop(ctx, admin, groups(had.Name), []string{had.Name, deadLetters(had.Name)})
}

// dropIndex deletes the indices and the template that the stack has.
func (r *Reconciler) dropIndex(ctx context.Context, p *pass) error {
	had := p.stack.Status.SearchIndex
	if err := r.wantedByOther(ctx, p.stack, append(indexClaims(p.stack), indexKey("on", had.ClusterUUID, had.Alias))); err != nil {
		return err
	}
	target := elasticTarget(p)
	return r.gates.ask(elasticServer(target), digest(target), func() error { return r.dropIndexOf(ctx, target, had) })
}

func (r *Reconciler) dropIndexOf(ctx context.Context, target template.Target, had *v1alpha1.SearchIndexStatus) error {
	admin, err := r.ConnectIndex(ctx, target)
	if err != nil {
		return err
	}
	defer admin.Close()
	id, err := admin.ClusterUUID(ctx)
	if err != nil {
		return err
	}
	if id != had.ClusterUUID {
		return &apply.Stalled{Message: "elasticsearch.addresses lead to another Elasticsearch by now, " + id}
	}
	return admin.Drop(ctx, had.Alias)
}

// wantedByOther keeps what another stack names too.
func (r *Reconciler) wantedByOther(ctx context.Context, stack *v1alpha1.AtlasStack, keys []string) error {
	for _, key := range keys {
		others, err := r.claimants(ctx, stack, key)
		if err != nil {
			return err
		}
		for i := range others {
			if others[i].DeletionTimestamp.IsZero() {
				return &apply.Stalled{Message: fmt.Sprintf("AtlasStack %s in namespace %s wants them too", others[i].Name, others[i].Namespace)}
			}
		}
	}
	return nil
}

// readCredentials reads what the way to Kafka or to Elasticsearch needs, and says what it lacks. A Secret or ConfigMap that is gone, with the namespace for example, is
// taken as it was read last.
func (r *Reconciler) readCredentials(ctx context.Context, p *pass, server string) (string, error) {
	objects := objectReader{Reconciler: r, stack: p.stack, read: map[string]content{}, last: p.memory.read}
	inputs, problems, err := objects.values(ctx, func(ref workloads.Reference) bool { return leadsTo(server, ref) })
	maps.Copy(p.inputs, inputs)
	return messages(problems), err
}

// summarizeTerminating says what is waited for.
func summarizeTerminating(e *ending) {
	stack, conditions := e.stack, &e.stack.Status.Conditions
	message := "being deleted, done at " + e.until.UTC().Format(time.RFC3339) + " at the latest: " + strings.Join(e.waiting, "; ")
	stack.Status.ObservedGeneration = stack.Generation
	meta.RemoveStatusCondition(conditions, v1alpha1.ConditionStalled)
	apply.SetCondition(conditions, stack.Generation, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTerminating, message)
	apply.SetCondition(conditions, stack.Generation, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonTerminating, message)
}

// letGo tells how the stack ended, and removes the finalizer.
func (r *Reconciler) letGo(ctx context.Context, e *ending) error {
	if len(e.left) > 0 {
		message := "The AtlasStack is gone and this is left behind; delete it by hand, if nobody needs it: " + strings.Join(e.left, "; ")
		// Nobody can create an Event in a namespace that is being deleted.
		logf.FromContext(ctx).Info(message)
		r.Recorder.Eventf(e.stack, nil, corev1.EventTypeWarning, reasonLeftBehind, "CleanUp", "%s", apply.Message(message))
	} else if dropsTopic(e.stack) || dropsIndex(e.stack) {
		r.Recorder.Eventf(e.stack, nil, corev1.EventTypeNormal, reasonCleanedUp, "CleanUp", "What the deletionPolicies say is deleted.")
	}
	err := r.patchFinalizer(ctx, e.stack, controllerutil.RemoveFinalizer)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
