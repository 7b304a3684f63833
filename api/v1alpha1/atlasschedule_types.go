package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

const (
	// ScheduleLabel has the name of the AtlasSchedule that made an AtlasJob.
	ScheduleLabel = "platform.atlas.dev/schedule"
	// ScheduledAtAnnotation has the tick that an AtlasJob was made for, in RFC 3339.
	ScheduledAtAnnotation = "platform.atlas.dev/scheduled-at"
)

// AtlasScheduleSpec says when which AtlasJobs are made.
type AtlasScheduleSpec struct {
	// schedule is when jobs are made: minute, hour, day of the month, month and day of the week as cron has them, or one of @hourly, @daily, @midnight,
	// @weekly, @monthly, @yearly and @annually.
	// +required
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|[0-9*,/?-]+ +[0-9*,/?-]+ +[0-9*,/?-]+ +[0-9A-Za-z*,/?-]+ +[0-9A-Za-z*,/?-]+)$')",message="want minute, hour, day of the month, month and day of the week, '30 3 * * 1' for example (Mondays at 3:30), or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually"
	Schedule string `json:"schedule"`

	// timeZone is the IANA name of the time zone that schedule speaks of, such as Europe/Vienna.
	// +optional
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$')",message="want the IANA name of a time zone, Europe/Vienna for example"
	// +kubebuilder:validation:XValidation:rule="self.lowerAscii() != 'local'",message="Local is each machine's own time zone: name one, such as Europe/Vienna"
	TimeZone string `json:"timeZone,omitempty"`

	// suspend stops making jobs. Those that were made go on. Ticks that pass meanwhile count as missed.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// startingDeadlineSeconds is how late a job may be made. Of the ticks that were missed, at most the last one is made up for, and only within this
	// time. There is no limit when this is not set.
	// +optional
	// +kubebuilder:validation:Minimum=10
	StartingDeadlineSeconds *int64 `json:"startingDeadlineSeconds,omitempty"`

	// concurrencyPolicy says what happens when an earlier job of this schedule is not finished: Allow runs both, Forbid waits until the earlier one is
	// finished, Replace deletes the earlier one, which cancels it.
	// +optional
	// +kubebuilder:default=Allow
	ConcurrencyPolicy AtlasConcurrencyPolicy `json:"concurrencyPolicy,omitempty"`

	// successfulJobsHistoryLimit is how many jobs that succeeded are kept.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	SuccessfulJobsHistoryLimit *int32 `json:"successfulJobsHistoryLimit,omitempty"`

	// failedJobsHistoryLimit is how many jobs that failed or were cancelled are kept.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	FailedJobsHistoryLimit *int32 `json:"failedJobsHistoryLimit,omitempty"`

	// jobTemplate is what the AtlasJobs are made from. A change is for those that are made later.
	// +required
	JobTemplate AtlasJobTemplate `json:"jobTemplate"`
}

// AtlasConcurrencyPolicy says whether jobs of one schedule may run at the same time.
// +kubebuilder:validation:Enum=Allow;Forbid;Replace
type AtlasConcurrencyPolicy string

// The policies.
const (
	ConcurrencyAllow   AtlasConcurrencyPolicy = "Allow"
	ConcurrencyForbid  AtlasConcurrencyPolicy = "Forbid"
	ConcurrencyReplace AtlasConcurrencyPolicy = "Replace"
)

// AtlasJobTemplate is what AtlasJobs are made from.
type AtlasJobTemplate struct {
	// metadata is given to each AtlasJob.
	// +optional
	Metadata AtlasJobTemplateMetadata `json:"metadata,omitzero"`
	// spec is the AtlasJobs' spec.
	// +required
	Spec AtlasJobDefinition `json:"spec"`
}

// AtlasJobTemplateMetadata is the part of an object's metadata that a template may set.
type AtlasJobTemplateMetadata struct {
	// labels of the AtlasJobs.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// annotations of the AtlasJobs.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// AtlasScheduleStatus is what the controller last saw and did.
type AtlasScheduleStatus struct {
	// observedGeneration is the generation of the spec that the conditions speak of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions are Ready, Reconciling and Stalled as kstatus defines them.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// active are the names of the AtlasJobs that are not finished.
	// +optional
	// +listType=set
	Active []string `json:"active,omitempty"`

	// lastScheduleTime is the last tick that a job was made for, or that was missed for good.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// lastSuccessfulTime is when a job of this schedule last succeeded.
	// +optional
	LastSuccessfulTime *metav1.Time `json:"lastSuccessfulTime,omitempty"`

	// nextScheduleTime is the next tick. It is absent while the schedule is suspended.
	// +optional
	NextScheduleTime *metav1.Time `json:"nextScheduleTime,omitempty"`
}

// AtlasSchedule makes an AtlasJob at each tick of a cron expression, exactly one for each.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=atlas,shortName=asc
// +kubebuilder:printcolumn:name="Schedule",type="string",JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Time zone",type="string",JSONPath=`.spec.timeZone`
// +kubebuilder:printcolumn:name="Suspend",type="boolean",JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Active",type="string",JSONPath=`.status.active`,priority=1
// +kubebuilder:printcolumn:name="Last",type="date",JSONPath=`.status.lastScheduleTime`
// +kubebuilder:printcolumn:name="Next",type="string",JSONPath=`.status.nextScheduleTime`
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 52",message="metadata.name may have 52 characters: the names of the AtlasJobs have 11 more"
type AtlasSchedule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says when which AtlasJobs are made.
	// +required
	Spec AtlasScheduleSpec `json:"spec"`
	// status is what the controller last saw and did. Before it has seen anything, kstatus would call a schedule without a status Current.
	// +optional
	// +default={"observedGeneration":-1}
	Status AtlasScheduleStatus `json:"status,omitzero"`
}

// AtlasScheduleList is a list of AtlasSchedules.
//
// +kubebuilder:object:root=true
type AtlasScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AtlasSchedule `json:"items"`
}
