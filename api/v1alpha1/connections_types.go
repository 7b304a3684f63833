package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PostgresSpec says how to reach PostgreSQL.
type PostgresSpec struct {
	// urlSecretRef is the key of a Secret in the stack's namespace that holds a PostgreSQL URI,
	// postgres://user:password@host:5432/database.
	// +required
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="urlSecretRef.name is empty: name a Secret in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="urlSecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="urlSecretRef can't be optional: the platform needs its database"
	// +kubebuilder:validation:XValidation:rule="size(self.key) > 0",message="urlSecretRef.key is empty: name the key of the Secret that has the value"
	URLSecretRef corev1.SecretKeySelector `json:"urlSecretRef"`

	// caFrom is the CA of the server's certificate. The connections are encrypted and the server's name is checked then (sslmode=verify-full), unless the
	// URI says otherwise.
	// +optional
	CAFrom *CASource `json:"caFrom,omitempty"`

	// cloudSQL reaches a database of Google Cloud SQL by its connector, which runs beside every pod. The URI names 127.0.0.1 as its host then.
	// +optional
	CloudSQL *CloudSQLSpec `json:"cloudSQL,omitempty"`

	// maxConnections is the size of each pod's pool of connections, 10 by default. The API's is kept full; besides, each of its pods has up to three connections of its own.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=1000
	MaxConnections *int32 `json:"maxConnections,omitempty"`
}

// CloudSQLSpec is the Cloud SQL Auth Proxy, as a native sidecar. It signs in by Workload Identity: annotate the pods' ServiceAccounts by
// spec.serviceAccountAnnotations, iam.gke.io/gcp-service-account for example.
type CloudSQLSpec struct {
	// instanceConnectionName is the instance, project:region:instance.
	// +required
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9.:-]+:[a-z0-9-]+:[a-z0-9-]+$')",message="want project:region:instance, my-project:europe-west1:atlas for example"
	InstanceConnectionName string `json:"instanceConnectionName"`

	// image is the image of the Cloud SQL Auth Proxy, version 2, with a tag other than latest, or with a digest.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^((localhost|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9.-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?)/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$')`,message="cloudSQL.image is not the name of an image: want name:tag or name@sha256: and 64 digits, gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.18.2 for example, the name in lower case and without spaces"
	// +kubebuilder:validation:XValidation:rule="(self.contains('@sha256:') || self.matches(':[A-Za-z0-9_][A-Za-z0-9_.-]*$')) && !self.endsWith(':latest')",message="cloudSQL.image needs a version tag other than latest, or a digest"
	Image string `json:"image"`

	// privateIP connects to the instance's private address.
	// +optional
	PrivateIP bool `json:"privateIP,omitempty"`

	// iamAuthentication signs in to the database as the IAM identity too, instead of by the URI's password.
	// +optional
	IAMAuthentication bool `json:"iamAuthentication,omitempty"`

	// resources are the requests and limits of the sidecar.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.claims)",message="resources.claims is not supported: remove it"
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`
}

// CASource is where certificates in PEM are: one key of a Secret or of a ConfigMap in the stack's namespace.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.configMapKeyRef)",message="want either secretKeyRef or configMapKeyRef"
type CASource struct {
	// secretKeyRef is the key of a Secret.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="secretKeyRef.name is empty: name a Secret in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="secretKeyRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="secretKeyRef can't be optional: remove caFrom to trust the system's CAs"
	// +kubebuilder:validation:XValidation:rule="size(self.key) > 0",message="secretKeyRef.key is empty: name the key of the Secret that has the value"
	SecretKeyRef *corev1.SecretKeySelector `json:"secretKeyRef,omitempty"`

	// configMapKeyRef is the key of a ConfigMap.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="configMapKeyRef.name is empty: name a ConfigMap in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="configMapKeyRef.name is not the name of a ConfigMap: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	// +kubebuilder:validation:XValidation:rule="!has(self.optional) || !self.optional",message="configMapKeyRef can't be optional: remove caFrom to trust the system's CAs"
	// +kubebuilder:validation:XValidation:rule="size(self.key) > 0",message="configMapKeyRef.key is empty: name the key of the ConfigMap that has the value"
	ConfigMapKeyRef *corev1.ConfigMapKeySelector `json:"configMapKeyRef,omitempty"`
}

// KafkaSpec says how to reach Kafka and what the topic looks like.
//
// +kubebuilder:validation:XValidation:rule="!has(self.topic.config) || !('min.insync.replicas' in self.topic.config) || !self.topic.config['min.insync.replicas'].matches('^[0-9]{1,9}$') || int(self.topic.config['min.insync.replicas']) <= self.topic.replicationFactor",message="min.insync.replicas of topic.config is larger than topic.replicationFactor, and no event could be written: lower it, or raise topic.replicationFactor"
// +kubebuilder:validation:XValidation:rule="!has(self.deadLetterTopic.config) || !('min.insync.replicas' in self.deadLetterTopic.config) || !self.deadLetterTopic.config['min.insync.replicas'].matches('^[0-9]{1,9}$') || int(self.deadLetterTopic.config['min.insync.replicas']) <= self.topic.replicationFactor",message="min.insync.replicas of deadLetterTopic.config is larger than topic.replicationFactor, and no event could be written: lower it, or raise topic.replicationFactor"
type KafkaSpec struct {
	// brokers are the bootstrap addresses, each host:port.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=262
	// +kubebuilder:validation:items:XValidation:rule=`self.matches(r'^([a-zA-Z0-9_]([a-zA-Z0-9._-]*[a-zA-Z0-9._])?|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$')`,message="want host:port, kafka.example.com:9092 for example"
	// +kubebuilder:validation:items:XValidation:rule="!self.matches(r':[0-9]{1,5}$') || (int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535)",message="the port is not between 1 and 65535"
	Brokers []string `json:"brokers"`

	// tls encrypts the connections.
	// +optional
	TLS *KafkaTLSSpec `json:"tls,omitempty"`

	// sasl signs in to the brokers.
	// +optional
	SASL *KafkaSASLSpec `json:"sasl,omitempty"`

	// topic is the topic of domain events. A dead-letter topic named <name>.dlq with the same replication factor is kept beside it.
	// +optional
	// +default={}
	Topic TopicSpec `json:"topic,omitzero"`

	// deadLetterTopic is the topic of events that could not be handled, <topic.name>.dlq, with the same replication factor as topic.
	// +optional
	// +default={}
	DeadLetterTopic DeadLetterTopicSpec `json:"deadLetterTopic,omitzero"`

	// deletionPolicy says what becomes of both topics when the stack is deleted. Retain keeps them. Delete removes them, as far as that
	// is possible within some minutes: a server that can't be reached holds the deletion up no longer.
	// +optional
	// +default="Retain"
	// +kubebuilder:validation:Enum=Retain;Delete
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// DeletionPolicy says what becomes of data in other systems when the stack is deleted.
type DeletionPolicy string

// The policies.
const (
	DeletionRetain DeletionPolicy = "Retain"
	DeletionDelete DeletionPolicy = "Delete"
)

// KafkaTLSSpec encrypts the connections to Kafka.
type KafkaTLSSpec struct {
	// caFrom is the CA of the brokers' certificates. Without it, the CAs that the image has are trusted, which are those of public sites.
	// +optional
	CAFrom *CASource `json:"caFrom,omitempty"`

	// clientCertificateSecretRef is a Secret in the stack's namespace with the client's certificate and key for mutual TLS, under tls.crt and tls.key.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="clientCertificateSecretRef.name is empty: name a Secret in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="clientCertificateSecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	ClientCertificateSecretRef *corev1.LocalObjectReference `json:"clientCertificateSecretRef,omitempty"`
}

// KafkaSASLSpec signs in to Kafka.
//
// +kubebuilder:validation:XValidation:rule="(self.mechanism == 'OAUTHBEARER') == has(self.oauth)",message="mechanism OAUTHBEARER needs oauth, and the others must not have it"
type KafkaSASLSpec struct {
	// mechanism is the SASL mechanism. PLAIN sends the password as it is: use it with tls only.
	// +required
	// +kubebuilder:validation:Enum=PLAIN;SCRAM-SHA-256;SCRAM-SHA-512;OAUTHBEARER
	Mechanism string `json:"mechanism"`

	// credentialsSecretRef is a Secret in the stack's namespace with the keys username and password; for OAUTHBEARER, clientId and clientSecret.
	// +required
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="credentialsSecretRef.name is empty: name a Secret in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="credentialsSecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	CredentialsSecretRef corev1.LocalObjectReference `json:"credentialsSecretRef"`

	// oauth says where tokens come from, for OAUTHBEARER.
	// +optional
	OAuth *KafkaOAuthSpec `json:"oauth,omitempty"`
}

// KafkaOAuthSpec says where tokens come from, by the client credentials grant.
type KafkaOAuthSpec struct {
	// tokenURL is the token endpoint.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^https?://[^\s/@]+(/\S*)?$') && isURL(self) && url(self).getHostname() != ''`,message="tokenURL is not an http or https URL, https://login.example.com/oauth2/token for example; credentials belong into credentialsSecretRef"
	// +kubebuilder:validation:XValidation:rule="!isURL(self) || url(self).getPort() == '' || (url(self).getPort().size() <= 5 && int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535)",message="the port is not between 1 and 65535"
	TokenURL string `json:"tokenURL"`

	// scopes are what tokens are asked for with.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:XValidation:rule=`self.matches(r'^[^\s,]+$')`,message="want one scope without spaces and commas: make each scope an item of its own"
	Scopes []string `json:"scopes,omitempty"`
}

// TopicSpec is the topic of domain events.
//
// +kubebuilder:validation:XValidation:rule="!has(self.retention) || !has(self.config) || !('retention.ms' in self.config)",message="retention is set twice: keep topic.retention and remove retention.ms from topic.config"
type TopicSpec struct {
	// name is the topic's name, which no other stack on the same Kafka may have: each would consume events of the other.
	// It can't be changed: events that were not consumed yet would be left behind.
	// +optional
	// +default="atlas.domain-events.v1"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=245
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-zA-Z0-9._-]+$')`,message="topic.name may have letters, digits, '.', '_' and '-' only"
	// +kubebuilder:validation:XValidation:rule="self != '.' && self != '..'",message="topic.name is one that Kafka refuses: choose another one, atlas.domain-events.v1 for example"
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
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of at least 1ms, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) >= duration('1ms')`,message="topic.retention is zero, and events would be gone before they are handled: raise it, or remove it for the broker's default"
	Retention *metav1.Duration `json:"retention,omitempty"`

	// config are further topic settings by their Kafka names, for example min.insync.replicas. Settings not named here are left as they are.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Config map[string]string `json:"config,omitempty"`
}

// DeadLetterTopicSpec is the topic of events that could not be handled.
//
// +kubebuilder:validation:XValidation:rule="!has(self.retention) || !has(self.config) || !('retention.ms' in self.config)",message="retention is set twice: keep deadLetterTopic.retention and remove retention.ms from deadLetterTopic.config"
type DeadLetterTopicSpec struct {
	// partitions is the number of partitions. It may grow; Kafka can't shrink a topic.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="deadLetterTopic.partitions can't be lowered, Kafka never removes partitions: keep the old number or a higher one"
	Partitions int32 `json:"partitions,omitempty"`

	// retention is how long events are kept, for example 8760h. They are kept until somebody deletes them when it is not set.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of at least 1ms, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) >= duration('1ms')`,message="deadLetterTopic.retention is zero, and events would be gone at once: raise it, or remove it to keep them"
	Retention *metav1.Duration `json:"retention,omitempty"`

	// config are further topic settings by their Kafka names. Those of topic.config apply besides, where they are not named here.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	Config map[string]string `json:"config,omitempty"`
}

// ObjectStoreSpec is a bucket of S3, or of what speaks it, or a volume.
//
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.volumeClaimName)",message="set exactly one of url and volumeClaimName"
// +kubebuilder:validation:XValidation:rule="!has(self.credentialsSecretRef) || has(self.url)",message="credentialsSecretRef is for url only: remove it"
type ObjectStoreSpec struct {
	// url is s3://bucket/prefix, with the parameters endpoint, region and path_style where they are needed. The bucket has to be there. Credentials belong into
	// credentialsSecretRef, never into the URL.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^s3://[^\s/?#@:]+([/?][^\s#@]*)?$')`,message="objectStore.url is not s3://bucket/prefix; credentials belong into credentialsSecretRef, and the address of a server into the parameter endpoint"
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[^?]*(\?(((endpoint|region)=[^&]*|path_style=(true|True|TRUE|t|T|1|false|False|FALSE|f|F|0)?)?(&|$))*)?$')`,message="the parameters of objectStore.url are endpoint, region and path_style, which is true or false: s3://bucket?endpoint=https://minio.example.com:9000&path_style=true for example"
	// +kubebuilder:validation:XValidation:rule="!self.matches(r'[?&]endpoint=[^&]') || self.matches(r'[?&]endpoint=(?i:https?(:|%3A)(/|%2F){2})[^/&?]')",message="the endpoint in objectStore.url is not http://host:port or https://host"
	URL string `json:"url,omitempty"`

	// credentialsSecretRef is a Secret in the stack's namespace with the keys accessKeyID and secretAccessKey. Without it the roles use the identity that their
	// nodes give them.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="credentialsSecretRef.name is empty: name a Secret in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="credentialsSecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	CredentialsSecretRef *corev1.LocalObjectReference `json:"credentialsSecretRef,omitempty"`

	// volumeClaimName is a PersistentVolumeClaim in the stack's namespace that every pod of the API and of the worker can write at the same time: ReadWriteMany,
	// unless all of them are on one node.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,message="not the name of a PersistentVolumeClaim: want lower-case letters, digits, '-' and '.', atlas-files for example"
	VolumeClaimName string `json:"volumeClaimName,omitempty"`
}

// ElasticsearchSpec says how to reach Elasticsearch and what the index looks like.
//
// +kubebuilder:validation:XValidation:rule="has(self.addresses) != has(self.cloudID)",message="want either addresses or cloudID"
type ElasticsearchSpec struct {
	// addresses are the http or https URLs of the nodes. Credentials belong into credentialsSecretRef, never into a URL.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:items:XValidation:rule=`self.matches(r'^https?://[^\s/@,?#]+(/[^\s@,?#]*)?$') && isURL(self) && url(self).getHostname() != ''`,message="want http://host:port or https://host:port; credentials belong into credentialsSecretRef"
	// +kubebuilder:validation:items:XValidation:rule="!isURL(self) || url(self).getPort() == '' || (url(self).getPort().size() <= 5 && int(url(self).getPort()) >= 1 && int(url(self).getPort()) <= 65535)",message="the port is not between 1 and 65535"
	Addresses []string `json:"addresses,omitempty"`

	// cloudID is the Cloud ID of a deployment on Elastic Cloud, instead of addresses.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[^:\s]*:[A-Za-z0-9+/=]+$')`,message="want the Cloud ID as the console of Elastic Cloud shows it, the deployment's name, ':' and base64, my-deployment:ZXVyb3BlLXdlc3QxJGFiYyRkZWY= for example"
	CloudID string `json:"cloudID,omitempty"`

	// caFrom is the CA of the nodes' certificates. Without it, the CAs that the image has are trusted, which are those of public sites.
	// +optional
	CAFrom *CASource `json:"caFrom,omitempty"`

	// credentialsSecretRef is a Secret in the stack's namespace with either the keys username and password, or the key apiKey.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.name) && size(self.name) > 0",message="credentialsSecretRef.name is empty: name a Secret in the stack's namespace"
	// +kubebuilder:validation:XValidation:rule="!has(self.name) || self.name == '' || self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",message="credentialsSecretRef.name is not the name of a Secret: want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"
	CredentialsSecretRef *corev1.LocalObjectReference `json:"credentialsSecretRef,omitempty"`

	// index is the search index.
	// +optional
	// +default={}
	Index IndexSpec `json:"index,omitzero"`

	// reindexPolicy says what happens when the search index has another definition than this release, or than index.shards asks for. Search goes on in the
	// old index either way. Manual: the condition SearchIndexReady says so, until somebody creates an AtlasJob of type reindex. Automatic: the operator
	// creates it as soon as every role has rolled out.
	// +optional
	// +default="Manual"
	// +kubebuilder:validation:Enum=Manual;Automatic
	ReindexPolicy ReindexPolicy `json:"reindexPolicy,omitempty"`

	// deletionPolicy says what becomes of the index template and of the indices behind the alias when the stack is deleted. Retain keeps them. Delete removes them, as far as that
	// is possible within some minutes: a server that can't be reached holds the deletion up no longer.
	// +optional
	// +default="Retain"
	// +kubebuilder:validation:Enum=Retain;Delete
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// ReindexPolicy says who has the search index rebuilt.
type ReindexPolicy string

// The policies.
const (
	ReindexManual    ReindexPolicy = "Manual"
	ReindexAutomatic ReindexPolicy = "Automatic"
)

// IndexSpec is the search index.
type IndexSpec struct {
	// alias is the name that is searched and written; the indices behind it are named <alias>-<definition>-<time>.
	// No other stack on the same Elasticsearch may have it. It can't be changed: search would be empty behind the new name.
	// +optional
	// +default="atlas-items"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^[a-z0-9][a-z0-9._-]*$')`,message="index.alias may have lower-case letters, digits, '.', '_' and '-' only, and begins with a letter or digit"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="index.alias can't be changed, search would be empty behind the new name: create another AtlasStack for another alias"
	Alias string `json:"alias,omitempty"`

	// shards is the number of primary shards of indices created from now on. An existing index keeps its own.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1024
	Shards int32 `json:"shards,omitempty"`

	// language is the language of most of the items, whose word forms search understands. none takes words as they are. Another language needs a reindex.
	// +optional
	// +default="english"
	// +kubebuilder:validation:Enum=none;arabic;danish;dutch;english;finnish;french;german;hungarian;italian;norwegian;portuguese;romanian;russian;spanish;swedish;turkish
	Language string `json:"language,omitempty"`

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
	// +kubebuilder:validation:XValidation:rule=`self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$')`,message="want a duration of at least 1ms, such as 90s, 15m or 168h: its units are h, m, s and ms, days are not a unit, and it has no sign"
	// +kubebuilder:validation:XValidation:rule=`!self.matches(r'^([0-9]{1,6}(\.[0-9]+)?h|[0-9]{1,9}(\.[0-9]+)?[ms]|[0-9]{1,12}(\.[0-9]+)?ms)+$') || duration(self) >= duration('1ms')`,message="index.refreshInterval is zero: raise it, 1s for example"
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`
}
