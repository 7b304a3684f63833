package atlasstack

import (
	"context"
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

const (
	// migrationPoll is a safety net for messages of pods; the watch on the Job notices its end.
	migrationPoll = 2 * time.Second
	// A failed migration is tried again after firstMigrationRetry, then after twice as long each time.
	firstMigrationRetry   = 10 * time.Second
	longestMigrationRetry = 2 * time.Minute
)

// migrate runs the migration Job once for each set of inputs that it has not succeeded with yet.
func (r *Reconciler) migrate(ctx context.Context, p *pass) (string, error) {
	inputs, err := workloads.MigrationInputs(p.stack, p.inputs)
	if err != nil {
		return "", err
	}
	name := client.ObjectKey{Namespace: p.stack.Namespace, Name: workloads.MigrationName(p.stack, inputs)}
	if err := r.dropSuperseded(ctx, p, name.Name); err != nil {
		return "", err
	}
	done := p.stack.Status.Migration
	if done != nil && done.Inputs == inputs {
		return migrated(done), nil
	}
	if done != nil && done.Inputs != "" {
		// It stops counting before another one runs, which changes the database: of that one nothing may be left but this.
		done.Inputs = ""
		return "", &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: "a migration with image " + p.stack.Spec.Image + " is to be started", After: recordedSoon}
	}
	// A live read: what follows starts and deletes Jobs, which a stale cache must not decide.
	job := &batchv1.Job{}
	err = r.Reader.Get(ctx, name, job)
	switch {
	case apierrors.IsNotFound(err):
		return "", r.startMigration(ctx, p, inputs, 1)
	case err != nil:
		return "", fmt.Errorf("read migration Job %s: %w", name.Name, err)
	case !metav1.IsControlledBy(job, p.stack) && apply.Orphaned(job, p.stack) && finished(job):
		// It may be an earlier stack's, and others may have run since.
		if err := r.repeatMigration(ctx, p, job, inputs, 1); err != nil {
			return "", err
		}
		return "", &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf("migration Job %s was started again", job.Name), After: migrationPoll}
	case !metav1.IsControlledBy(job, p.stack):
		return "", r.startMigration(ctx, p, inputs, 1) // takes it back, or says whose it is
	}
	if c := jobCondition(job, batchv1.JobComplete); c != nil {
		p.stack.Status.Migration = &v1alpha1.MigrationStatus{
			Inputs: inputs, Image: p.stack.Spec.Image, CompletionTime: c.LastTransitionTime,
		}
		return migrated(p.stack.Status.Migration), nil
	}
	if !finished(job) { // it may have to make another pod
		if err := r.keepMigrationAccount(ctx, p); err != nil {
			return "", err
		}
	}
	why, err := r.explainJob(ctx, p, job)
	if err != nil {
		return "", err
	}
	if why != "" {
		p.memory.failing.job, p.memory.failing.why = job.UID, why
	}
	if c := jobCondition(job, batchv1.JobFailed); c != nil && c.Reason == batchv1.JobReasonPodFailurePolicy {
		return "", r.refuseDowngrade(ctx, p, job, inputs, why)
	} else if c != nil {
		return "", r.retryMigration(ctx, p, job, c, inputs, why)
	}
	if why != "" {
		return "", &apply.Waiting{Reason: v1alpha1.ReasonFailed, Message: fmt.Sprintf("migration Job %s is being retried: %s", job.Name, why), After: migrationPoll}
	}
	return "", &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf("migration Job %s is running", job.Name), After: migrationPoll}
}

// dropSuperseded deletes the Jobs of other inputs than the present ones. One that waits for its image must not migrate once
// the spec has moved on, and one that is done must not count when its inputs come back: others have run since.
func (r *Reconciler) dropSuperseded(ctx context.Context, p *pass, current string) error {
	jobs := &batchv1.JobList{}
	err := r.Client.List(ctx, jobs, client.InNamespace(p.stack.Namespace), client.MatchingLabels(workloads.Labels(p.stack, workloads.RoleMigrate)))
	if err != nil {
		return fmt.Errorf("list migration Jobs: %w", err)
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		if job.Name == current || !job.DeletionTimestamp.IsZero() {
			continue
		}
		if own, err := r.applier.Owns(ctx, p.stack, job); err != nil {
			return err
		} else if !own {
			continue
		}
		if err := r.deleteJob(ctx, job); err != nil {
			return err
		}
		if done := p.stack.Status.Migration; done != nil && job.Spec.Template.Spec.Containers[0].Image != done.Image {
			p.stack.Status.Migration = nil // it may have changed the database, wholly or in part, so that the image of the last one that counted may be too old
		}
	}
	return nil
}

func (r *Reconciler) deleteJob(ctx context.Context, job *batchv1.Job) error {
	err := r.Client.Delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationBackground), client.Preconditions{UID: &job.UID})
	if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete migration Job %s: %w", job.Name, err)
	}
	return nil
}

func migrated(m *v1alpha1.MigrationStatus) string {
	return "the database is migrated for image " + m.Image
}

func (r *Reconciler) startMigration(ctx context.Context, p *pass, inputs string, attempt int) error {
	if err := r.keepMigrationAccount(ctx, p); err != nil {
		return err
	}
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: workloads.MigrationName(p.stack, inputs)}}
	if _, err := r.applier.Apply(ctx, p.stack, workloads.MigrationJob(p.stack, p.inputs, inputs, attempt), job); err != nil {
		return refused(err, "migration")
	}
	return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf("migration Job %s was started", job.Name), After: migrationPoll}
}

// retryMigration replaces a failed Job once its back-off is over, so that a database that was down recovers by itself.
func (r *Reconciler) retryMigration(ctx context.Context, p *pass, job *batchv1.Job, failure *batchv1.JobCondition, inputs, why string) error {
	if why == "" {
		why = p.explainFailure(job, failure)
	}
	attempt, err := strconv.Atoi(job.Annotations[workloads.AttemptAnnotation])
	if err != nil || attempt < 1 {
		attempt = 1
	}
	delay := longestMigrationRetry
	if attempt < 5 {
		delay = min(delay, firstMigrationRetry<<(attempt-1))
	}
	kept := ""
	if p.stack.Status.Version != "" {
		kept = "; the running version is kept"
	}
	waiting := &apply.Waiting{
		Reason: v1alpha1.ReasonFailed, After: delay - time.Since(failure.LastTransitionTime.Time),
		Message: fmt.Sprintf("the database migration failed (attempt %d, next after %s)%s: %s", attempt, delay, kept, why),
	}
	if waiting.After > 0 {
		return waiting
	}
	waiting.After = time.Second
	if err := r.repeatMigration(ctx, p, job, inputs, attempt+1); err != nil {
		return err
	}
	// The next Job has not failed yet, but nothing shows that the cause is gone: keep saying why.
	return waiting
}

// explainFailure says why a Job failed whose pods say nothing any more.
func (p *pass) explainFailure(job *batchv1.Job, failure *batchv1.JobCondition) string {
	why := failure.Message
	if failure.Reason == batchv1.JobReasonDeadlineExceeded {
		why = "it took longer than migration.timeoutSeconds allows: raise that, unless its pod could not start"
	}
	if last := p.memory.failing; last.job == job.UID {
		why += " (last seen: " + last.why + ")"
	}
	return why
}

// repeatMigration replaces a Job that has failed, in this pass or in a later one.
func (r *Reconciler) repeatMigration(ctx context.Context, p *pass, job *batchv1.Job, inputs string, attempt int) error {
	if err := r.deleteJob(ctx, job); err != nil {
		return err
	}
	// With this propagation a Job is gone when the answer comes, unless something else holds a finalizer on it.
	err := r.Reader.Get(ctx, client.ObjectKeyFromObject(job), &batchv1.Job{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("read migration Job %s: %w", job.Name, err)
	}
	err = r.startMigration(ctx, p, inputs, attempt)
	if _, started := apply.AsWaiting(err); started {
		return nil
	}
	return err
}

// refuseDowngrade says that the database was migrated by a newer release than the image's. That changes with the image, or with another database
// behind the same URL, of which somebody has to tell.
func (r *Reconciler) refuseDowngrade(ctx context.Context, p *pass, job *batchv1.Job, inputs, why string) error {
	if request := p.stack.Annotations[v1alpha1.ReconcileRequestAnnotation]; request != p.stack.Status.LastHandledReconcileAt {
		if err := r.repeatMigration(ctx, p, job, inputs, 1); err != nil {
			return err
		}
		return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: fmt.Sprintf("migration Job %s was started again", job.Name), After: migrationPoll}
	}
	message := fmt.Sprintf("image %s is older than the schema of the database, so nothing was changed and what runs goes on: set image to ", p.stack.Spec.Image)
	if done := p.stack.Status.Migration; done != nil && done.Image != p.stack.Spec.Image {
		message += done.Image + ", which migrated it, or to a newer one"
	} else {
		message += "the one that migrated it, or to a newer one"
	}
	message += "; or restore a backup of the database from before the upgrade and set the annotation " + v1alpha1.ReconcileRequestAnnotation + " to the present time"
	if why != "" {
		message += " (" + why + ")"
	}
	return &apply.Stalled{Reason: v1alpha1.ReasonDowngradeRefused, Message: message}
}

func finished(job *batchv1.Job) bool {
	return jobCondition(job, batchv1.JobComplete) != nil || jobCondition(job, batchv1.JobFailed) != nil
}

func jobCondition(job *batchv1.Job, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i, c := range job.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue {
			return &job.Status.Conditions[i]
		}
	}
	return nil
}

// explainJob says why the newest failing pod of a Job fails; "" when none does.
func (r *Reconciler) explainJob(ctx context.Context, p *pass, job *batchv1.Job) (string, error) {
	// By its UID: the pods of an earlier Job of the same name may still be there.
	why, err := r.explainPods(ctx, p, client.MatchingLabels{batchv1.ControllerUidLabel: string(job.UID)})
	if hint := databaseHint(&p.stack.Spec.Postgres, why); hint != "" {
		why += ": " + hint
	}
	return why, err
}
