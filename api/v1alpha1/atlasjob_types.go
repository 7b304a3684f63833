package v1alpha1

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AtlasJobDefinition is one background job as it is asked for. AtlasJobSpec is the same once it was created: what can't be changed any more is said there,
// so that the template of an AtlasSchedule may change.
type AtlasJobDefinition struct {
	// stackRef is the AtlasStack, in the same namespace, whose API runs the job.
	// +required
	StackRef AtlasStackReference `json:"stackRef"`

	// AtlasJobWork is what the job does.
	AtlasJobWork `json:",inline"`

	// priority lets the job go before others that wait (up to 9) or after them (down to -9).
	// +optional
	// +kubebuilder:validation:Minimum=-9
	// +kubebuilder:validation:Maximum=9
	Priority *int32 `json:"priority,omitempty"`

	// maxAttempts is how often the job is tried. It depends on the type when this is not set.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=25
	MaxAttempts *int32 `json:"maxAttempts,omitempty"`

	// suspend keeps the job from being submitted or, when it was, from being run: one that runs stops at its next checkpoint and goes on from there
	// once this is false. It can be changed.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// ttlSecondsAfterFinished deletes the AtlasJob so many seconds after it finished and its outcome is in status.
	// It is kept when this is not set. It can be changed.
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
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="stackRef.name is not the name of an AtlasStack: want lower-case letters, digits and '-', beginning with a letter"
	Name string `json:"name"`
}

// AtlasJobPhase is where a job is in its life.
// +kubebuilder:validation:Enum=Pending;Suspended;Queued;Running;Succeeded;Failed;Cancelled
type AtlasJobPhase string

// The phases. Succeeded, Failed and Cancelled are final.
const (
	// AtlasJobPending has not been submitted to the API yet.
	AtlasJobPending AtlasJobPhase = "Pending"
	// AtlasJobSuspended is kept from being run by spec.suspend.
	AtlasJobSuspended AtlasJobPhase = "Suspended"
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

	// submissionTime is when the API took the job.
	// +optional
	SubmissionTime *metav1.Time `json:"submissionTime,omitempty"`

	// startTime is when a worker first started the job.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the job reached its final phase.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// error is what the last attempt failed with, or why the API refused the job.
	// +optional
	Error *AtlasJobError `json:"error,omitempty"`

	// result says in a line what came of the job.
	// +optional
	Result string `json:"result,omitempty"`
}

// AtlasJobError is what went wrong.
type AtlasJobError struct {
	// code is stable, for programs.
	// +optional
	Code string `json:"code,omitempty"`
	// message is for people.
	// +optional
	Message string `json:"message,omitempty"`
}

// UnmarshalJSON reads what the release before wrote as well: the message alone.
func (e *AtlasJobError) UnmarshalJSON(content []byte) error {
	if len(content) > 0 && content[0] == '"' {
		*e = AtlasJobError{}
		return json.Unmarshal(content, &e.Message)
	}
	type plain AtlasJobError // without this method
	return json.Unmarshal(content, (*plain)(e))
}

// AtlasJobProgress counts the units of work of a job, items for a reindex.
type AtlasJobProgress struct {
	// done is the number of units that are done.
	// +optional
	Done int64 `json:"done"`
	// total is the number of units known so far; 0 while it isn't known.
	// +optional
	Total int64 `json:"total"`
	// summary is done and total in one string, such as 40/100, for kubectl's table; done alone while total isn't known.
	// +optional
	Summary string `json:"summary,omitempty"`
	// message is what the job is doing, in words.
	// +optional
	Message string `json:"message,omitempty"`
}

// AtlasJob is one background job of an AtlasStack. It is submitted once however often it is reconciled. Deleting it cancels the job.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=atlas,shortName=aj
// +kubebuilder:printcolumn:name="Stack",type="string",JSONPath=`.spec.stackRef.name`
// +kubebuilder:printcolumn:name="Type",type="string",JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Phase",type="string",JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Progress",type="string",JSONPath=`.status.progress.summary`
// +kubebuilder:printcolumn:name="Doing",type="string",JSONPath=`.status.progress.message`,priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=`.metadata.creationTimestamp`
type AtlasJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the job asked for.
	// +required
	Spec AtlasJobSpec `json:"spec"`
	// status is what the controller last saw. Before it has seen anything, kstatus would call a job without a status Current.
	// +optional
	// +default={"observedGeneration":-1}
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
