package workloads

import (
	"fmt"
	"slices"

	"github.com/IBM/sarama"
	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Input is something that pods take from a Secret or a ConfigMap.
type Input string

// The inputs. Each is also the name of its volume, where it is a file.
const (
	DatabaseURL           Input = "database-url"
	DatabaseCA            Input = "database-ca"
	SigningKey            Input = "signing-key"
	AcceptedKey           Input = "accepted-key"
	AdminPassword         Input = "admin-password"
	KafkaCA               Input = "kafka-ca"
	KafkaCertificate      Input = "kafka-certificate"
	KafkaKey              Input = "kafka-key"
	KafkaUsername         Input = "kafka-username"
	KafkaPassword         Input = "kafka-password"
	KafkaClientID         Input = "kafka-client-id"
	KafkaClientSecret     Input = "kafka-client-secret"
	ElasticsearchCA       Input = "elasticsearch-ca"
	ElasticsearchUsername Input = "elasticsearch-username"
	ElasticsearchPassword Input = "elasticsearch-password"
	ElasticsearchAPIKey   Input = "elasticsearch-api-key"
	ObjectsAccessKey      Input = "objects-access-key"
	ObjectsSecretKey      Input = "objects-secret-key"
)

// The keys of Secrets that a stack refers to as a whole.
const (
	usernameKey     = "username"
	passwordKey     = "password"
	apiKeyKey       = "apiKey"
	clientIDKey     = "clientId"
	clientSecretKey = "clientSecret"
	accessKeyKey    = "accessKeyID"
	secretKeyKey    = "secretAccessKey"
)

// Reference is one key of a Secret, or of a ConfigMap, in the stack's namespace.
type Reference struct {
	Input     Input
	ConfigMap bool
	Name, Key string
	// Generated is true when the operator makes the Secret where there is none.
	Generated bool
	// Optional is true when nothing is wrong where the key is absent.
	Optional bool
	// Choice is true for one of several ways to sign in, of which one has to be there.
	Choice bool
}

// Kind is the kind of the object.
func (r Reference) Kind() string {
	if r.ConfigMap {
		return "ConfigMap"
	}
	return "Secret"
}

// Inputs are the contents of what a stack refers to. Pods get references, never the contents; these go into hashes, and into the operator's own
// connections.
type Inputs map[Input][]byte

// References are all keys that a stack refers to.
func References(stack *v1alpha1.AtlasStack) []Reference {
	spec := &stack.Spec
	refs := []Reference{secretKey(DatabaseURL, &spec.Postgres.URLSecretRef)}
	refs = append(refs, caKey(DatabaseCA, spec.Postgres.CAFrom)...)
	if ref := spec.Auth.SigningKeySecretRef; ref != nil {
		refs = append(refs, secretKey(SigningKey, ref))
		if other := spec.Auth.AcceptedKeySecretRef; other != nil {
			refs = append(refs, secretKey(AcceptedKey, other))
		}
	} else {
		refs = append(refs,
			Reference{Input: SigningKey, Name: AuthSecretName(stack), Key: SigningKeyKey, Generated: true},
			Reference{Input: AcceptedKey, Name: AuthSecretName(stack), Key: AcceptedKeyKey, Optional: true})
	}
	if ref := spec.Auth.Admin.PasswordSecretRef; ref != nil {
		refs = append(refs, secretKey(AdminPassword, ref))
	} else {
		refs = append(refs, Reference{Input: AdminPassword, Name: AdminSecretName(stack), Key: AdminPasswordKey, Generated: true})
	}
	refs = append(refs, kafkaReferences(&spec.Kafka)...)
	refs = append(refs, caKey(ElasticsearchCA, spec.Elasticsearch.CAFrom)...)
	if ref := spec.Elasticsearch.CredentialsSecretRef; ref != nil {
		refs = append(refs,
			Reference{Input: ElasticsearchAPIKey, Name: ref.Name, Key: apiKeyKey, Choice: true},
			Reference{Input: ElasticsearchUsername, Name: ref.Name, Key: usernameKey, Choice: true},
			Reference{Input: ElasticsearchPassword, Name: ref.Name, Key: passwordKey, Choice: true})
	}
	if store := spec.ObjectStore; store != nil && store.CredentialsSecretRef != nil {
		refs = append(refs,
			Reference{Input: ObjectsAccessKey, Name: store.CredentialsSecretRef.Name, Key: accessKeyKey},
			Reference{Input: ObjectsSecretKey, Name: store.CredentialsSecretRef.Name, Key: secretKeyKey})
	}
	return refs
}

func kafkaReferences(kafka *v1alpha1.KafkaSpec) (refs []Reference) {
	if tls := kafka.TLS; tls != nil {
		refs = append(refs, caKey(KafkaCA, tls.CAFrom)...)
		if ref := tls.ClientCertificateSecretRef; ref != nil {
			refs = append(refs,
				Reference{Input: KafkaCertificate, Name: ref.Name, Key: corev1.TLSCertKey},
				Reference{Input: KafkaKey, Name: ref.Name, Key: corev1.TLSPrivateKeyKey})
		}
	}
	switch sasl := kafka.SASL; {
	case sasl == nil:
	case sasl.Mechanism == sarama.SASLTypeOAuth:
		refs = append(refs,
			Reference{Input: KafkaClientID, Name: sasl.CredentialsSecretRef.Name, Key: clientIDKey},
			Reference{Input: KafkaClientSecret, Name: sasl.CredentialsSecretRef.Name, Key: clientSecretKey})
	default:
		refs = append(refs,
			Reference{Input: KafkaUsername, Name: sasl.CredentialsSecretRef.Name, Key: usernameKey},
			Reference{Input: KafkaPassword, Name: sasl.CredentialsSecretRef.Name, Key: passwordKey})
	}
	return refs
}

func secretKey(input Input, ref *corev1.SecretKeySelector) Reference {
	return Reference{Input: input, Name: ref.Name, Key: ref.Key}
}

func caKey(input Input, from *v1alpha1.CASource) []Reference {
	switch {
	case from == nil:
		return nil
	case from.ConfigMapKeyRef != nil:
		return []Reference{{Input: input, ConfigMap: true, Name: from.ConfigMapKeyRef.Name, Key: from.ConfigMapKeyRef.Key}}
	case from.SecretKeyRef != nil:
		return []Reference{secretKey(input, from.SecretKeyRef)}
	}
	return nil
}

// use is how the pods of some roles take an input: as a variable, or as a file that a variable names.
type use struct {
	variable string
	file     string // "" for none
	roles    func(Role) bool
	public   bool
}

func (i Input) use() use {
	every := func(Role) bool { return true }
	only := func(role Role) func(Role) bool { return func(r Role) bool { return r == role } }
	switch i {
	case DatabaseURL:
		return use{variable: "DATABASE_URL", roles: every}
	case DatabaseCA:
		return use{variable: "PGSSLROOTCERT", file: "/etc/atlas/database-ca/ca.crt", roles: every, public: true}
	case SigningKey:
		return use{variable: "JWT_SIGNING_KEY_FILE", file: "/etc/atlas/auth/" + SigningKeyKey, roles: only(RoleAPI)}
	case AcceptedKey:
		return use{variable: "JWT_PREVIOUS_KEY_FILE", file: "/etc/atlas/accepted-key/" + SigningKeyKey, roles: only(RoleAPI)}
	case AdminPassword:
		return use{variable: "BOOTSTRAP_ADMIN_PASSWORD_FILE", file: "/etc/atlas/admin/" + AdminPasswordKey, roles: only(RoleMigrate)}
	case KafkaCA:
		return use{variable: "KAFKA_CA_FILE", file: "/etc/atlas/kafka-ca/ca.crt", roles: usesKafka, public: true}
	case KafkaCertificate:
		return use{variable: "KAFKA_CERT_FILE", file: "/etc/atlas/kafka-certificate/tls.crt", roles: usesKafka, public: true}
	case KafkaKey:
		return use{variable: "KAFKA_KEY_FILE", file: "/etc/atlas/kafka-key/tls.key", roles: usesKafka}
	case KafkaUsername:
		return use{variable: "KAFKA_SASL_USERNAME", roles: usesKafka, public: true}
	case KafkaPassword:
		return use{variable: "KAFKA_SASL_PASSWORD", roles: usesKafka}
	case KafkaClientID:
		return use{variable: "KAFKA_OAUTH_CLIENT_ID", roles: usesKafka, public: true}
	case KafkaClientSecret:
		return use{variable: "KAFKA_OAUTH_CLIENT_SECRET", roles: usesKafka}
	case ElasticsearchCA:
		return use{variable: "ELASTICSEARCH_CA_FILE", file: "/etc/atlas/elasticsearch-ca/ca.crt", roles: usesElasticsearch, public: true}
	case ElasticsearchUsername:
		return use{variable: "ELASTICSEARCH_USERNAME", roles: usesElasticsearch, public: true}
	case ElasticsearchPassword:
		return use{variable: "ELASTICSEARCH_PASSWORD", roles: usesElasticsearch}
	case ElasticsearchAPIKey:
		return use{variable: "ELASTICSEARCH_API_KEY", roles: usesElasticsearch}
	case ObjectsAccessKey:
		return use{variable: "AWS_ACCESS_KEY_ID", roles: usesObjects, public: true}
	case ObjectsSecretKey:
		return use{variable: "AWS_SECRET_ACCESS_KEY", roles: usesObjects}
	}
	panic(fmt.Sprintf("the input %q has no use", string(i))) // a constant was added above alone
}

// Public tells whether an input may be shown, in a message for example.
func (i Input) Public() bool { return i.use().public }

// UsedBy tells whether the pods of a role take an input, where it is there.
func (i Input) UsedBy(role Role) bool { return i.use().roles(role) }

// usedBy are the references that a role's pods take, of those that are there.
func usedBy(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) []Reference {
	return slices.DeleteFunc(References(stack), func(ref Reference) bool {
		_, there := inputs[ref.Input]
		return !there || !ref.Input.UsedBy(role)
	})
}

// contents are what of the inputs a role's pods depend on, by its name.
func contents(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) map[Input][]byte {
	used := map[Input][]byte{}
	for _, ref := range usedBy(stack, role, inputs) {
		used[ref.Input] = inputs[ref.Input]
	}
	return used
}

// mount mounts the role's inputs that are files.
func mount(spec *corev1ac.PodSpecApplyConfiguration, container *corev1ac.ContainerApplyConfiguration, refs []Reference) {
	for _, ref := range refs {
		if u := ref.Input.use(); u.file != "" {
			mountKey(spec, container, ref, u.file)
		}
	}
}
