package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AtlasStackSpec is the platform that one AtlasStack asks for.
type AtlasStackSpec struct {
	// image is the container image of the data plane, with a tag other than latest, or with a digest. A new image is
	// rolled out only after its database migrations succeeded.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.contains('@sha256:') || self.matches(':[A-Za-z0-9_][A-Za-z0-9_.-]*$')",message="image has neither a tag nor a digest: write registry/name:tag or registry/name@sha256:…"
	// +kubebuilder:validation:XValidation:rule="!self.endsWith(':latest')",message="image has the tag latest, which changes under a running platform: write a version tag or a digest"
	Image string `json:"image"`

	// imagePullPolicy is the pull policy of every container. Kubernetes' own default (IfNotPresent) applies when it is not set.
	// +optional
	// +kubebuilder:validation:Enum=Always;IfNotPresent;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`

	// imagePullSecrets are Secrets in the stack's namespace to pull the image with.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
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

	// auth says where the API's signing key and the first admin come from.
	// +optional
	// +default={}
	Auth AuthSpec `json:"auth,omitzero"`

	// api is the role that serves the REST API and relays events to Kafka.
	// +optional
	// +default={}
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

	// migration bounds the Job that migrates the database.
	// +optional
	// +default={}
	Migration MigrationSpec `json:"migration,omitzero"`

	// paused stops the controller from changing anything for this stack, in the cluster, in Kafka or in Elasticsearch.
	// +optional
	Paused bool `json:"paused,omitempty"`
}

// PostgresSpec says how to reach PostgreSQL.
type PostgresSpec struct {
	// urlSecretRef is the key of a Secret in the stack's namespace that holds a PostgreSQL URI,
	// postgres://user:password@host:5432/database.
	// +required
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="urlSecretRef.name is empty: name a Secret in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="urlSecretRef can't be optional: the platform needs its database"
	URLSecretRef corev1.SecretKeySelector `json:"urlSecretRef"`
}

// KafkaSpec says how to reach Kafka and what the topic looks like.
type KafkaSpec struct {
	// brokers are the bootstrap addresses, each host:port.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=262
	// +kubebuilder:validation:items:Pattern=`^([a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$`
	Brokers []string `json:"brokers"`

	// topic is the topic of domain events. A dead-letter topic named <name>.dlq with the same replication factor is kept beside it.
	// +optional
	// +default={}
	Topic TopicSpec `json:"topic,omitzero"`
}

// TopicSpec is the topic of domain events. Deleting the stack keeps the topic.
//
// +kubebuilder:validation:XValidation:rule="!has(self.retention) || !has(self.config) || !('retention.ms' in self.config)",message="retention is set twice: keep topic.retention and remove retention.ms from topic.config"
type TopicSpec struct {
	// name is the topic's name, which no other stack on the same Kafka may have: each would consume events of the other.
	// It can't be changed: events that were not consumed yet would be left behind.
	// +optional
	// +default="atlas.domain-events.v1"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=245
	// +kubebuilder:validation:Pattern=`^[a-zA-Z0-9._-]+$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="topic.name can't be changed, events not consumed yet would be left behind: create another AtlasStack for another topic"
	Name string `json:"name,omitempty"`

	// partitions is the number of partitions. It may grow; Kafka can't shrink a topic.
	// +optional
	// +default=6
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="topic.partitions can't be lowered, Kafka never removes partitions: keep the old number or a higher one"
	Partitions int32 `json:"partitions,omitempty"`

	// replicationFactor is the number of copies of each partition. It counts when the topic is created; a topic that has
	// another one is reported as Stalled.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32767
	ReplicationFactor int16 `json:"replicationFactor,omitempty"`

	// retention is how long events are kept, for example 168h. The broker's default applies when it is not set.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	Retention *metav1.Duration `json:"retention,omitempty"`

	// config are further topic settings by their Kafka names, for example min.insync.replicas. Settings not named here are left as they are.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Config map[string]string `json:"config,omitempty"`
}

// ElasticsearchSpec says how to reach Elasticsearch and what the index looks like.
type ElasticsearchSpec struct {
	// addresses are the http or https URLs of the nodes. Credentials belong into credentialsSecretRef, never into a URL.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:Pattern=`^https?://[^\s/@,]+(/[^\s@,]*)?$`
	Addresses []string `json:"addresses"`

	// credentialsSecretRef is a Secret in the stack's namespace with either the keys username and password, or the key apiKey.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="credentialsSecretRef.name is empty: name a Secret in the stack's namespace"
	CredentialsSecretRef *corev1.LocalObjectReference `json:"credentialsSecretRef,omitempty"`

	// index is the search index.
	// +optional
	// +default={}
	Index IndexSpec `json:"index,omitzero"`
}

// IndexSpec is the search index. Deleting the stack keeps it.
type IndexSpec struct {
	// alias is the name that is searched and written; the indices behind it are named <alias>-<definition>-<time>.
	// No other stack on the same Elasticsearch may have it. It can't be changed: search would be empty behind the new name.
	// +optional
	// +default="atlas-items"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:Pattern=`^[a-z0-9][a-z0-9._-]*$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="index.alias can't be changed, search would be empty behind the new name: create another AtlasStack for another alias"
	Alias string `json:"alias,omitempty"`

	// shards is the number of primary shards of indices created from now on. An existing index keeps its own.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1024
	Shards int32 `json:"shards,omitempty"`

	// replicas is the number of copies of each shard. It is applied to the live index too.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1024
	Replicas *int32 `json:"replicas,omitempty"`

	// refreshInterval is how long a write may stay invisible to search. It is applied to the live index too.
	// +optional
	// +default="1s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`
}

// AuthSpec says where the API's signing key and the first admin come from.
type AuthSpec struct {
	// signingKeySecretRef is the key of a Secret that holds the Ed25519 private key (PEM, PKCS #8) that access tokens are
	// signed with. When it is not set, the operator makes a key once in the Secret <stack>-auth under signing-key.pem.
	// That Secret outlives the stack, so that a stack created again on the same database goes on working.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="signingKeySecretRef.name is empty: name a Secret in the stack's namespace, or remove signingKeySecretRef to have a key generated"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="signingKeySecretRef can't be optional: remove it to have one generated"
	SigningKeySecretRef *corev1.SecretKeySelector `json:"signingKeySecretRef,omitempty"`

	// admin is the platform admin that the migration ensures.
	// +optional
	// +default={}
	Admin AdminSpec `json:"admin,omitzero"`
}

// AdminSpec is the platform admin that the migration ensures.
type AdminSpec struct {
	// email is the admin's login.
	// +optional
	// +default="admin@atlas.local"
	// +kubebuilder:validation:MaxLength=254
	// +kubebuilder:validation:Pattern=`^[^@\s]+@[^@\s]+$`
	Email string `json:"email,omitempty"`

	// passwordSecretRef is the key of a Secret that holds the admin's password. When it is not set, the operator makes a
	// password once in the Secret <stack>-admin under password, beside email. That Secret outlives the stack, so that a
	// stack created again on the same database keeps its admin.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="passwordSecretRef.name is empty: name a Secret in the stack's namespace, or remove passwordSecretRef to have a password generated"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="passwordSecretRef can't be optional: remove it to have one generated"
	PasswordSecretRef *corev1.SecretKeySelector `json:"passwordSecretRef,omitempty"`
}

// ComponentSpec sizes one role.
type ComponentSpec struct {
	// replicas is the number of pods.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Replicas *int32 `json:"replicas,omitempty"`

	// resources are the requests and limits of each pod.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.claims)",message="resources.claims is not supported: remove it"
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
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

	// version is the tag or digest of the image that every role runs, once it has rolled out.
	// +optional
	Version string `json:"version,omitempty"`

	// endpoint is the URL of the REST API inside the cluster.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`

	// components are the pods of each role.
	// +optional
	// +listType=map
	// +listMapKey=name
	Components []ComponentStatus `json:"components,omitempty"`

	// migration is the last migration that succeeded. It is kept here so that it isn't repeated once its Job is gone.
	// +optional
	Migration *MigrationStatus `json:"migration,omitempty"`
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
	// inputs is the hash over the image, the database's URL and the admin's login that the migration ran with.
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
// workloads; the topic, the index, the database and the generated Secrets stay.
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
	// status is what the controller last saw.
	// +optional
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
