package v1alpha1

// Conditions that both kinds have. They follow kstatus, so kubectl wait, Helm and GitOps tools understand them.
const (
	// ConditionReady is True when the object is as its spec asks, for the generation in its observedGeneration.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the controller works towards the spec, and absent otherwise.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when a person has to act, and absent otherwise. The message says what to do.
	ConditionStalled = "Stalled"
)

// Conditions of an AtlasStack, one for each dependency. They are Unknown when the dependency can't be reached.
const (
	// ConditionReferencesResolved is True when every Secret and key that the spec names exists.
	ConditionReferencesResolved = "ReferencesResolved"
	// ConditionMigrationsApplied is True when the database has the schema of spec.image.
	ConditionMigrationsApplied = "MigrationsApplied"
	// ConditionTopicReady is True when the topic and its dead-letter topic are as the spec asks.
	ConditionTopicReady = "TopicReady"
	// ConditionSearchIndexReady is True when the index template, an index of its definition and the alias are in place. Search works while it is False
	// with reason ReindexRequired, Reindexing or ReindexFailed, and Ready does not wait for it then.
	ConditionSearchIndexReady = "SearchIndexReady"
	// ConditionWorkloadsReady is True when every Deployment has rolled out and all its pods are ready.
	ConditionWorkloadsReady = "WorkloadsReady"
	// ConditionExposureReady is True when what stands around the pods is in place: Services, Ingress, route, network policies, monitor and dashboards.
	ConditionExposureReady = "ExposureReady"
)

// Conditions of an AtlasJob besides the kstatus ones.
const (
	// ConditionComplete is True when the job succeeded.
	ConditionComplete = "Complete"
	// ConditionFailed is True when the job failed for good or was cancelled.
	ConditionFailed = "Failed"
)

// Reasons used in more than one condition.
const (
	ReasonReady             = "Ready"
	ReasonProgressing       = "Progressing"
	ReasonPaused            = "Paused"
	ReasonNameTaken         = "NameTaken"
	ReasonWaiting           = "WaitingForEarlierStep"
	ReasonSecretNotFound    = "SecretNotFound"
	ReasonConfigMapNotFound = "ConfigMapNotFound"
	ReasonSecretKeyMissing  = "SecretKeyMissing"
	ReasonSecretInvalid     = "SecretInvalid"
	ReasonUnreachable       = "Unreachable"
	ReasonRefused           = "Refused"
	ReasonForbiddenChange   = "ForbiddenChange"
	ReasonCRDMissing        = "CRDMissing"
	ReasonFailed            = "Failed"
	ReasonPodTemplate       = "PodTemplateInvalid"
	ReasonHibernated        = "Hibernated"
	ReasonError             = "Error"
	// ReasonClaimedByOther is of a stack whose topic or index is another stack's.
	ReasonClaimedByOther = "ClaimedByOther"
	// ReasonDowngradeRefused is of a stack whose image is older than its database.
	ReasonDowngradeRefused = "DowngradeRefused"
	// ReasonTerminating is of a stack that is being deleted.
	ReasonTerminating = "Terminating"
)

// Reasons of SearchIndexReady that tell of an index of another definition than this release's.
const (
	ReasonReindexRequired = "ReindexRequired"
	ReasonReindexing      = "Reindexing"
	ReasonReindexFailed   = "ReindexFailed"
)

// Serves tells of a reason of SearchIndexReady that search works nevertheless.
func Serves(reason string) bool {
	return reason == ReasonReindexRequired || reason == ReasonReindexing || reason == ReasonReindexFailed
}
