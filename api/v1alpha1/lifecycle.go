package v1alpha1

// What is written into the metadata of an AtlasStack.
const (
	// ReconcileRequestAnnotation has a stack looked at at once, with everything outside the cluster, each time that its value changes: a time, for
	// example. Its last value that was looked at is in status.lastHandledReconcileAt.
	ReconcileRequestAnnotation = "reconcile.platform.atlas.dev/requestedAt"
	// SkipCleanupAnnotation, "true" on a stack that is being deleted, has it go at once. What it would have removed stays.
	SkipCleanupAnnotation = "platform.atlas.dev/skip-cleanup"
	// CleanupFinalizer keeps a stack that is being deleted until what its deletionPolicies say is done and its jobs are cancelled.
	CleanupFinalizer = "platform.atlas.dev/cleanup"
)

// CancelJobFinalizer keeps an AtlasJob whose job may exist and may not be final yet.
const CancelJobFinalizer = "platform.atlas.dev/cancel-job"
