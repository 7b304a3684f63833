// Package atlasjob reconciles AtlasJobs: it submits each one to its stack's REST API exactly once, with a token that lives as long as the call, and
// mirrors the job into status until it is finished. Deleting an AtlasJob forgets it and nothing more: a job that was submitted runs to its end.
package atlasjob

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	atlas "github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/token"
)

const (
	// tokenTTL is the life of a service token: one call, and the skew between two clocks.
	tokenTTL = time.Minute
	// pollRunning and pollQueued are how often a job is looked at. Both are jittered, so that many jobs don't call at once.
	pollRunning = time.Second
	pollQueued  = 2 * time.Second
	// recheckReferences is how soon a missing reference is looked for again. The stack is watched as well; Secrets are not.
	recheckReferences = 5 * time.Second
	// recheckRefused is how soon a job that the API doesn't show any more is asked for again.
	recheckRefused = time.Minute
	// A call that failed is tried again after minBackoff, then twice that, up to maxBackoff.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second

	workers  = 4
	jitter   = 0.5
	stackRef = ".spec.stackRef.name"

	issuer          = "atlas"
	audience        = "atlas-api"
	signingKeyField = "signing-key.pem"
)

// Reconciler reconciles AtlasJobs. Client, Reader and Recorder are required.
type Reconciler struct {
	client.Client
	// Reader reads without a cache. Secrets are read with it, so that the operator never holds more of them than it needs right now.
	Reader client.Reader
	// Recorder writes events.
	Recorder events.EventRecorder
	// HTTP calls the REST API. The default has no proxy and short time-outs. Redirects are never followed.
	HTTP *http.Client
	// BaseURL says where a stack's REST API is. The default is the stack's Service.
	BaseURL func(*platformv1alpha1.AtlasStack) string
	// Clock is time.Now unless a test says otherwise.
	Clock func() time.Time
}

// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasjobs,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasjobs/status,verbs=patch
// +kubebuilder:rbac:groups=platform.atlas.dev,resources=atlasstacks,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager registers the reconciler and fills in its defaults.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.setDefaults()
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &platformv1alpha1.AtlasJob{}, stackRef, func(object client.Object) []string {
		return []string{object.(*platformv1alpha1.AtlasJob).Spec.StackRef.Name}
	})
	if err != nil {
		return fmt.Errorf("index AtlasJobs by stack: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		// Own status writes change no generation and must not trigger: the pace is set by the polling interval alone.
		For(&platformv1alpha1.AtlasJob{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&platformv1alpha1.AtlasStack{}, handler.EnqueueRequestsFromMapFunc(r.jobsWaitingFor)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](minBackoff, maxBackoff),
		}).
		Complete(r)
}

func (r *Reconciler) setDefaults() {
	if r.HTTP == nil {
		r.HTTP = newHTTPClient()
	}
	r.HTTP = withoutRedirects(r.HTTP)
	if r.BaseURL == nil {
		r.BaseURL = func(stack *platformv1alpha1.AtlasStack) string {
			return "http://" + stack.Name + "-api." + stack.Namespace + ".svc"
		}
	}
	if r.Clock == nil {
		r.Clock = time.Now
	}
}

// jobsWaitingFor lists the AtlasJobs of a stack that are not submitted yet. The others are polled anyway.
func (r *Reconciler) jobsWaitingFor(ctx context.Context, stack client.Object) []reconcile.Request {
	var jobs platformv1alpha1.AtlasJobList
	if err := r.List(ctx, &jobs, client.InNamespace(stack.GetNamespace()), client.MatchingFields{stackRef: stack.GetName()}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Can't list the AtlasJobs of a stack")
		return nil
	}
	var requests []reconcile.Request
	for i := range jobs.Items {
		if job := &jobs.Items[i]; job.Status.JobID == "" && !finished(job) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)})
		}
	}
	return requests
}

// Reconcile brings one AtlasJob one step further and writes its status once.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	job := &platformv1alpha1.AtlasJob{}
	if err := r.Get(ctx, request.NamespacedName, job); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !job.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	if finished(job) {
		return r.expire(ctx, job)
	}

	before := job.DeepCopy()
	result, stepErr := r.step(ctx, job)
	job.Status.ObservedGeneration = job.Generation
	if err := r.patchStatus(ctx, before, job); err != nil {
		if apierrors.IsConflict(err) {
			// The cache was behind. What was just seen is seen again on the next turn.
			return ctrl.Result{RequeueAfter: pollRunning}, nil
		}
		return ctrl.Result{}, errors.Join(stepErr, client.IgnoreNotFound(err))
	}
	r.recordTransition(before, job)
	if finished(job) {
		return r.expire(ctx, job)
	}
	return result, stepErr
}

// step submits the job or looks at it, and says in job.Status what it saw. An error asks for another try with backoff; status already tells of it.
func (r *Reconciler) step(ctx context.Context, job *platformv1alpha1.AtlasJob) (ctrl.Result, error) {
	if job.Status.Phase == "" {
		job.Status.Phase = platformv1alpha1.AtlasJobPending
	}
	stack := &platformv1alpha1.AtlasStack{}
	err := r.Get(ctx, types.NamespacedName{Namespace: job.Namespace, Name: job.Spec.StackRef.Name}, stack)
	if apierrors.IsNotFound(err) {
		waiting(job, reasonStackNotFound, fmt.Sprintf("There is no AtlasStack %q in this namespace: create it, or delete this AtlasJob.", job.Spec.StackRef.Name))
		return ctrl.Result{RequeueAfter: wait.Jitter(recheckReferences, jitter)}, nil
	}
	if err != nil {
		waiting(job, platformv1alpha1.ReasonError, "The AtlasStack can't be read.")
		return ctrl.Result{}, fmt.Errorf("get the AtlasStack: %w", err)
	}
	// A submitted job is followed whatever the stack's state is: the API may well answer while a pod of another role is replaced.
	if job.Status.JobID == "" && !ready(stack) {
		waiting(job, reasonStackNotReady, fmt.Sprintf("The AtlasStack %q is not Ready; the job is submitted as soon as it is.", stack.Name))
		return ctrl.Result{RequeueAfter: wait.Jitter(recheckReferences, jitter)}, nil
	}
	key, reason, err := r.signingKey(ctx, stack)
	if err != nil {
		waiting(job, reason, err.Error())
		if reason == platformv1alpha1.ReasonError {
			return ctrl.Result{}, err
		}
		return ctrl.Result{RequeueAfter: wait.Jitter(recheckReferences, jitter)}, nil
	}
	calls, err := r.jobsClient(stack, key)
	if err != nil {
		return ctrl.Result{}, err
	}

	var remote *atlas.Job
	submitting := job.Status.JobID == ""
	if submitting {
		remote, err = submit(ctx, calls, job)
	} else {
		remote, err = calls.get(ctx, job.Status.JobID)
	}
	if err != nil {
		return r.callFailed(job, submitting, err)
	}
	mirror(job, remote, r.Clock())
	if remote.State == atlas.Queued {
		return ctrl.Result{RequeueAfter: wait.Jitter(pollQueued, jitter)}, nil
	}
	return ctrl.Result{RequeueAfter: wait.Jitter(pollRunning, jitter)}, nil
}

// callFailed says in status what a failed call means.
func (r *Reconciler) callFailed(job *platformv1alpha1.AtlasJob, submitting bool, err error) (ctrl.Result, error) {
	var refused *refusedError
	var unauthorized *unauthorizedError
	switch {
	case errors.As(err, &unauthorized):
		waiting(job, reasonUnauthorized, "The API doesn't accept the operator's token; it does once its pods run with the stack's current signing key. It says: "+err.Error())
		return ctrl.Result{}, err
	case errors.As(err, &refused) && submitting:
		// The spec can't change and the key stays the same, so the answer would too: this is an end.
		refuse(job, refused, r.Clock())
		return ctrl.Result{}, nil
	case errors.As(err, &refused):
		lost(job, refused)
		return ctrl.Result{RequeueAfter: wait.Jitter(recheckRefused, jitter)}, nil
	default:
		waiting(job, platformv1alpha1.ReasonUnreachable, "The API can't be asked; it is tried again: "+err.Error())
		return ctrl.Result{}, fmt.Errorf("call the API: %w", err)
	}
}

// submit asks for the job that an AtlasJob wants. CEL makes sure that the parameters of its type are there, and well formed.
func submit(ctx context.Context, calls jobsClient, job *platformv1alpha1.AtlasJob) (*atlas.Job, error) {
	request := atlas.JobCreate{Type: atlas.JobType(job.Spec.Type)}
	if job.Spec.Reindex != nil {
		collection, err := uuid.Parse(job.Spec.Reindex.CollectionID)
		if err != nil {
			return nil, fmt.Errorf("spec.reindex.collectionID: %w", err)
		}
		request.Parameters.CollectionID = collection
	}
	return calls.submit(ctx, string(job.UID), request)
}

// signingKey reads the key that the stack's API verifies tokens with. On an error it returns the condition's reason too.
func (r *Reconciler) signingKey(ctx context.Context, stack *platformv1alpha1.AtlasStack) (ed25519.PrivateKey, string, error) {
	name, field := stack.Name+"-auth", signingKeyField
	if ref := stack.Spec.Auth.SigningKeySecretRef; ref != nil {
		name, field = ref.Name, ref.Key
	}
	secret := &corev1.Secret{}
	err := r.Reader.Get(ctx, types.NamespacedName{Namespace: stack.Namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, platformv1alpha1.ReasonSecretNotFound, fmt.Errorf("the Secret %q with the stack's signing key does not exist", name)
	}
	if err != nil {
		return nil, platformv1alpha1.ReasonError, fmt.Errorf("read the Secret %q with the stack's signing key: %w", name, err)
	}
	content, ok := secret.Data[field]
	if !ok {
		return nil, platformv1alpha1.ReasonSecretKeyMissing, fmt.Errorf("the Secret %q has no key %q with the stack's signing key", name, field)
	}
	key, err := token.ParseSigningKey(content)
	if err != nil {
		return nil, platformv1alpha1.ReasonSecretInvalid, fmt.Errorf("the Secret %q, key %q: %w", name, field, err)
	}
	return key, "", nil
}

// jobsClient makes a client with a fresh token.
func (r *Reconciler) jobsClient(stack *platformv1alpha1.AtlasStack, key ed25519.PrivateKey) (jobsClient, error) {
	// The token is real time whatever Clock says: the API checks it against its own clock.
	bearer, err := token.NewIssuer(key, issuer, audience, tokenTTL, nil).MintService(token.OperatorSubject, tokenTTL)
	if err != nil {
		return jobsClient{}, fmt.Errorf("mint a service token: %w", err)
	}
	return jobsClient{http: r.HTTP, baseURL: r.BaseURL(stack), token: bearer}, nil
}

// expire deletes a finished AtlasJob once its time is over. It is only called with an outcome that is in status already.
func (r *Reconciler) expire(ctx context.Context, job *platformv1alpha1.AtlasJob) (ctrl.Result, error) {
	if job.Spec.TTLSecondsAfterFinished == nil || job.Status.CompletionTime == nil {
		return ctrl.Result{}, nil
	}
	end := job.Status.CompletionTime.Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
	if left := end.Sub(r.Clock()); left > 0 {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	// The UID keeps a stale cache from deleting a new object of the same name.
	err := r.Delete(ctx, job, client.Preconditions{UID: &job.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return ctrl.Result{}, fmt.Errorf("delete the finished AtlasJob: %w", err)
	}
	return ctrl.Result{}, nil
}

// ready says that a stack is Ready as its spec is now.
func ready(stack *platformv1alpha1.AtlasStack) bool {
	condition := meta.FindStatusCondition(stack.Status.Conditions, platformv1alpha1.ConditionReady)
	return condition != nil && condition.Status == metav1.ConditionTrue && condition.ObservedGeneration == stack.Generation
}
