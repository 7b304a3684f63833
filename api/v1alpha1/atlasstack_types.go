package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AtlasStackSpec is the platform that one AtlasStack asks for.
//
// +kubebuilder:validation:XValidation:rule="!has(self.postgres.cloudSQL) || !has(self.worker) || !has(self.worker.autoscaling) || !has(self.worker.autoscaling.lag) || self.worker.autoscaling.lag.source != 'KEDA'",message="KEDA can't reach a database behind postgres.cloudSQL, whose connector runs beside the pods: set worker.autoscaling.lag.source to ExternalMetric"
type AtlasStackSpec struct {
	// image is the container image of the data plane, with a tag other than latest, or with a digest. A new image is
	// rolled out only after its database migrations succeeded.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^((localhost|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?)/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$')`,message="image is not the name of an image: want name:tag or name@sha256: and 64 digits, registry.example.com/team/atlas:1.2.3 for example, the name in lower case and without spaces"
	// +kubebuilder:validation:XValidation:rule="self.contains('@sha256:') || self.matches(':[A-Za-z0-9_][A-Za-z0-9_.-]*$')",message="image has neither a tag nor a digest: write registry/name:tag or registry/name@sha256:…"
	// +kubebuilder:validation:XValidation:rule="!self.endsWith(':latest')",message="image has the tag latest, which changes under a running platform: write a version tag or a digest"
	Image string `json:"image"`

	// version is what status.version says of the image once every role runs it: for an image that is named by its digest, or by a tag that moves. It is a
	// name only, and changing it starts no pod. The image's tag, or else its digest, is the version when it is not set.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$')`,message="version is not the name of a version, 1.4.2 for example: want letters, digits, '.', '_' and '-', with a letter or a digit first and last"
	Version string `json:"version,omitempty"`

	// imagePullPolicy is the pull policy of every container. Kubernetes' own default (IfNotPresent) applies when it is not set.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// imagePullSecrets are Secrets in the stack's namespace to pull the image with.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:XValidation:rule="has(self.name) && size(self.name) > 0",message="the name is empty: name a Secret in the stack's namespace"
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// logLevel is the log level of every role.
	// +optional
	// +default="info"
	// +kubebuilder:validation:Enum=debug;info;warn;error
	LogLevel string `json:"logLevel,omitempty"`

	// postgres is the database: the platform's source of truth.
	// +required
	Postgres PostgresSpec `json:"postgres"`

	// kafka is the event bus.
	// +required
	Kafka KafkaSpec `json:"kafka"`

	// elasticsearch is the search engine.
	// +required
	Elasticsearch ElasticsearchSpec `json:"elasticsearch"`

	// objectStore is where the files of jobs of type import and export are. Without it such jobs are refused.
	// +optional
	ObjectStore *ObjectStoreSpec `json:"objectStore,omitempty"`

	// auth says where the API's signing key and the first admin come from.
	// +optional
	// +default={}
	Auth AuthSpec `json:"auth,omitzero"`

	// api is the role that serves the REST API and relays events to Kafka.
	// +optional
	// +default={}
	// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || !has(self.autoscaling.lag)",message="api.autoscaling.lag does not exist, no work waits for the API: use targetCPUUtilizationPercentage"
	API ComponentSpec `json:"api,omitzero"`

	// indexer is the role that copies items into Elasticsearch.
	// +optional
	// +default={}
	Indexer ComponentSpec `json:"indexer,omitzero"`

	// audit is the role that writes the audit trail.
	// +optional
	// +default={}
	Audit ComponentSpec `json:"audit,omitzero"`

	// worker is the role that runs background jobs.
	// +optional
	// +default={}
	Worker ComponentSpec `json:"worker,omitzero"`

	// networking says who reaches the platform and how.
	// +optional
	// +default={}
	Networking NetworkingSpec `json:"networking,omitzero"`

	// observability says what is told about the platform and to whom.
	// +optional
	// +default={}
	Observability ObservabilitySpec `json:"observability,omitzero"`

	// retention says how long the platform keeps what nobody needs any more.
	// +optional
	// +default={}
	Retention RetentionSpec `json:"retention,omitzero"`

	// enrichment says which web pages jobs of type enrich may fetch.
	// +optional
	// +default={}
	Enrichment EnrichmentSpec `json:"enrichment,omitzero"`

	// serviceAccountAnnotations are those of the pods' ServiceAccounts, by which clouds give them an identity: iam.gke.io/gcp-service-account for example.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	ServiceAccountAnnotations map[string]string `json:"serviceAccountAnnotations,omitempty"`

	// migration bounds the Job that migrates the database.
	// +optional
	// +default={}
	Migration MigrationSpec `json:"migration,omitzero"`

	// paused stops the controller from changing anything for this stack, in the cluster, in Kafka or in Elasticsearch.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// hibernate scales every role to zero pods, until it is removed. Data, topic and index stay, and so does everything else that the stack has.
	// +optional
	Hibernate bool `json:"hibernate,omitempty"`
}

// RetentionSpec says how long the platform keeps what nobody needs any more. The release's own defaults apply to what is not set.
type RetentionSpec struct {
	// trash is how long deleted items can be restored, 720h for example.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of more than 0s, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) > duration('0s')`,message="retention.trash is zero, and deleted items would be gone at once: raise it, or remove it for the default"
	Trash *metav1.Duration `json:"trash,omitempty"`

	// jobs is how long finished jobs can be looked at, 720h for example.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of more than 0s, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) > duration('0s')`,message="retention.jobs is zero, and finished jobs would be gone at once: raise it, or remove it for the default"
	Jobs *metav1.Duration `json:"jobs,omitempty"`

	// files is how long exports and uploads stay in the object store, 168h for example.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of more than 0s, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) > duration('0s')`,message="retention.files is zero, and files would be gone at once: raise it, or remove it for the default"
	Files *metav1.Duration `json:"files,omitempty"`
}

// EnrichmentSpec says which web pages jobs of type enrich may fetch. Pages of the public Internet may be, addresses of private networks may not.
type EnrichmentSpec struct {
	// allowCIDRs are the networks of an intranet whose pages may be fetched, from any port.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="want a CIDR, 10.0.0.0/8 for example"
	AllowCIDRs []string `json:"allowCIDRs,omitempty"`

	// denyCIDRs are networks that are never fetched from although they are public, such as your own.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="want a CIDR, 10.0.0.0/8 for example"
	DenyCIDRs []string `json:"denyCIDRs,omitempty"`

	// contact is a URL or an e-mail address in the User-Agent, for the owners of the servers that are asked.
	// +optional
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[!-\x27*-~]+$')`,message="want a URL or an e-mail address without spaces and parentheses, https://example.com/about-our-bot for example"
	Contact string `json:"contact,omitempty"`
}

// MigrationSpec bounds the Job that migrates the database.
type MigrationSpec struct {
	// timeoutSeconds is how long one migration Job may take, retries of its pod included.
	// +optional
	// +default=600
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=86400
	TimeoutSeconds *int64 `json:"timeoutSeconds,omitempty"`

	// backoffLimit is how often a failed pod is retried before the Job counts as failed. A failed Job is tried again
	// after a back-off of up to two minutes, and at once when the image or a Secret it uses changes.
	// +optional
	// +default=2
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=20
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`
}

// AtlasStackStatus is what the controller last saw.
type AtlasStackStatus struct {
	// observedGeneration is the generation of the spec that the conditions speak of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions say how far the stack is: Ready, Reconciling and Stalled as kstatus defines them, and one for each dependency.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// version is the spec's version of the image that every role runs, or else the image's tag or digest, once it has rolled out.
	// +optional
	Version string `json:"version,omitempty"`

	// endpoint is the URL of the REST API inside the cluster.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// externalEndpoint is the URL of the REST API outside the cluster: the Ingress' host, or the address of the load balancer. An HTTPRoute has none here,
	// because its scheme and port are the Gateway's.
	// +optional
	ExternalEndpoint string `json:"externalEndpoint,omitempty"`

	// components are the pods of each role.
	// +optional
	// +listType=map
	// +listMapKey=name
	Components []ComponentStatus `json:"components,omitempty"`

	// lastHandledReconcileAt is the value of the annotation reconcile.platform.atlas.dev/requestedAt that was looked at last.
	// +optional
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`

	// topic is the topic that this stack has, once it has it.
	// +optional
	Topic *TopicStatus `json:"topic,omitempty"`

	// searchIndex is the search index that this stack has, once it has it.
	// +optional
	SearchIndex *SearchIndexStatus `json:"searchIndex,omitempty"`

	// signingKey tells how old a generated signing key is.
	// +optional
	SigningKey *SigningKeyStatus `json:"signingKey,omitempty"`

	// migration is the last migration that succeeded. It is kept here so that it isn't repeated once its Job is gone.
	// +optional
	Migration *MigrationStatus `json:"migration,omitempty"`
}

// TopicStatus is a topic of one Kafka.
type TopicStatus struct {
	// clusterID is the identity that the Kafka gives itself.
	// +required
	ClusterID string `json:"clusterID"`
	// name is the topic's name.
	// +required
	Name string `json:"name"`
}

// SearchIndexStatus is an alias of one Elasticsearch.
type SearchIndexStatus struct {
	// clusterUUID is the identity that the Elasticsearch gives itself.
	// +required
	ClusterUUID string `json:"clusterUUID"`
	// alias is the alias.
	// +required
	Alias string `json:"alias"`
}

// SigningKeyStatus tells about a generated signing key.
type SigningKeyStatus struct {
	// rotationTime is when the key was made.
	// +required
	RotationTime metav1.Time `json:"rotationTime"`
	// nextRotationTime is when it is replaced.
	// +optional
	NextRotationTime *metav1.Time `json:"nextRotationTime,omitempty"`
}

// ComponentStatus counts the pods of one role.
type ComponentStatus struct {
	// name is the role.
	// +required
	Name string `json:"name"`
	// desired is the number of pods asked for.
	// +required
	Desired int32 `json:"desired"`
	// ready is the number of pods of the current revision that are ready.
	// +required
	Ready int32 `json:"ready"`
}

// MigrationStatus remembers a migration that succeeded.
type MigrationStatus struct {
	// inputs is the hash over the image, the database's URL and the admin's login that the migration ran with. It is empty
	// once one with others is to run, whose changes this one does not account for.
	// +required
	Inputs string `json:"inputs"`
	// image is the image that it ran with.
	// +required
	Image string `json:"image"`
	// completionTime is when it finished.
	// +required
	CompletionTime metav1.Time `json:"completionTime"`
}

// AtlasStack is a whole Atlas platform: its roles, topic, search index and database schema. Deleting it removes the
// workloads; the database and the generated Secrets stay, and so do topic and index, unless their deletionPolicy is Delete.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=atlas,shortName=ats
// +kubebuilder:printcolumn:name="Ready",type="string",JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Version",type="string",JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Message",type="string",JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40",message="the name is longer than 40 characters, and the names of what the stack creates would be too long: choose a shorter one"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="the name must be lower-case letters, digits and '-', starting with a letter, because Services are named after it"
type AtlasStack struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the platform asked for.
	// +required
	Spec AtlasStackSpec `json:"spec"`
	// status is what the controller last saw. Before it has seen anything, kstatus would call a stack without a status Current.
	// +optional
	// +default={"observedGeneration":-1}
	Status AtlasStackStatus `json:"status,omitzero"`
}

// AtlasStackList is a list of AtlasStacks.
//
// +kubebuilder:object:root=true
type AtlasStackList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AtlasStack `json:"items"`
}
