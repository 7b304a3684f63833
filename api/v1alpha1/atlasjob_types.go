package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AtlasJobType names what a job does.
type AtlasJobType string

// AtlasJobTypeReindex sends the items of one collection to Elasticsearch again.
const AtlasJobTypeReindex AtlasJobType = "reindex"

// AtlasJobSpec is one background job. It can't be changed once created.
//
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec can't be changed, the job may already run: delete this AtlasJob and create another one"
// +kubebuilder:validation:XValidation:rule="self.type != 'reindex' || has(self.reindex)",message="type is reindex but reindex is missing: set spec.reindex.collectionID"
type AtlasJobSpec struct {
	// stackRef is the AtlasStack, in the same namespace, whose API runs the job.
	// +required
	StackRef AtlasStackReference `json:"stackRef"`

	// type is what the job does. The field of the same name holds its parameters.
	// +required
	// +kubebuilder:validation:Enum=reindex
	Type AtlasJobType `json:"type"`

	// reindex are the parameters of type reindex.
	// +optional
	Reindex *ReindexJob `json:"reindex,omitempty"`

	// ttlSecondsAfterFinished deletes the AtlasJob so many seconds after it finished and its outcome is in status.
	// It is kept when this is not set.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// AtlasStackReference names an AtlasStack in the same namespace.
type AtlasStackReference struct {
	// name is the AtlasStack's name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`
}

// ReindexJob are the parameters of type reindex.
type ReindexJob struct {
	// collectionID is the collection whose items are indexed again, a UUID.
	// +required
	// +kubebuilder:validation:Format=uuid
	// +kubebuilder:validation:MaxLength=36
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`
	CollectionID string `json:"collectionID"`
}

// AtlasJobPhase is where a job is in its life.
// +kubebuilder:validation:Enum=Pending;Queued;Running;Succeeded;Failed;Cancelled
type AtlasJobPhase string

// The phases. Succeeded, Failed and Cancelled are final.
const (
	// AtlasJobPending has not been submitted to the API yet.
	AtlasJobPending AtlasJobPhase = "Pending"
	// AtlasJobQueued waits for a worker, also between two attempts.
	AtlasJobQueued AtlasJobPhase = "Queued"
	// AtlasJobRunning is with a worker.
	AtlasJobRunning AtlasJobPhase = "Running"
	// AtlasJobSucceeded is done.
	AtlasJobSucceeded AtlasJobPhase = "Succeeded"
	// AtlasJobFailed has used up its attempts, or was refused.
	AtlasJobFailed AtlasJobPhase = "Failed"
	// AtlasJobCancelled was stopped by someone.
	AtlasJobCancelled AtlasJobPhase = "Cancelled"
)

// AtlasJobStatus is what the controller last saw.
type AtlasJobStatus struct {
	// observedGeneration is the generation of the spec that the conditions speak of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, Reconciling and Stalled as kstatus defines them, and Complete and Failed.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// phase is where the job is in its life.
	// +optional
	Phase AtlasJobPhase `json:"phase,omitempty"`

	// jobID is the job's id in the REST API.
	// +optional
	JobID string `json:"jobID,omitempty"`

	// attempts is how often a worker has started the job.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`

	// progress is how far the job is.
	// +optional
	Progress *AtlasJobProgress `json:"progress,omitempty"`

	// startTime is when the job was submitted.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the job reached its final phase.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// error is what the last attempt failed with.
	// +optional
	Error string `json:"error,omitempty"`
}

// AtlasJobProgress counts the units of work of a job, items for a reindex.
type AtlasJobProgress struct {
	// done is the number of units that are done.
	// +optional
	Done int64 `json:"done"`
	// total is the number of units known so far.
	// +optional
	Total int64 `json:"total"`
	// summary is done and total in one string, such as 40/100, for kubectl's table.
	// +optional
	Summary string `json:"summary,omitempty"`
}

// AtlasJob is one background job of an AtlasStack. It runs at most once however often it is reconciled.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=atlas
// +kubebuilder:printcolumn:name="Stack",type="string",JSONPath=`.spec.stackRef.name`
// +kubebuilder:printcolumn:name="Type",type="string",JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Phase",type="string",JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Progress",type="string",JSONPath=`.status.progress.summary`
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=`.metadata.creationTimestamp`
type AtlasJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the job asked for.
	// +required
	Spec AtlasJobSpec `json:"spec"`
	// status is what the controller last saw.
	// +optional
	Status AtlasJobStatus `json:"status,omitzero"`
}

// AtlasJobList is a list of AtlasJobs.
//
// +kubebuilder:object:root=true
type AtlasJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AtlasJob `json:"items"`
}
