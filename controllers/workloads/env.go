package workloads

import (
	"strconv"
	"strings"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/elastic"
)

type envVar = corev1ac.EnvVarApplyConfiguration

func usesKafka(role Role) bool { return role == RoleAPI || role == RoleIndexer || role == RoleAudit }

func consumesKafka(role Role) bool { return role == RoleIndexer || role == RoleAudit }

func usesElasticsearch(role Role) bool {
	return role == RoleAPI || role == RoleIndexer || role == RoleWorker
}

func usesObjects(role Role) bool { return role == RoleAPI || role == RoleWorker }

// objectsDir is where a volume with the files of jobs is mounted.
const objectsDir = "/var/lib/atlas/objects"

// environment is the environment of a role, as docs/architecture.md lists it. What is left to its default is not set.
func environment(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) []*envVar {
	spec := &stack.Spec
	env := append([]*envVar{plain("LOG_LEVEL", spec.LogLevel)}, databaseEnvironment(&spec.Postgres)...)
	if usesKafka(role) {
		env = append(env, kafkaEnvironment(&spec.Kafka)...)
	}
	if consumesKafka(role) {
		// Offsets belong to a topic. Stacks that share a Kafka have topics of their own, and so must the groups be.
		env = append(env, plain("KAFKA_GROUP_PREFIX", spec.Kafka.Topic.Name))
	}
	if usesElasticsearch(role) {
		if spec.Elasticsearch.CloudID != "" {
			env = append(env, plain("ELASTICSEARCH_CLOUD_ID", spec.Elasticsearch.CloudID))
		} else {
			env = append(env, plain("ELASTICSEARCH_URL", strings.Join(spec.Elasticsearch.Addresses, ",")))
		}
		env = append(env, plain("ELASTICSEARCH_INDEX", spec.Elasticsearch.Index.Alias))
		if language := spec.Elasticsearch.Index.Language; role == RoleAPI && language != "" && language != elastic.English {
			env = append(env, plain("ELASTICSEARCH_LANGUAGE", language))
		}
	}
	if store := spec.ObjectStore; store != nil && usesObjects(role) {
		where := store.URL
		if where == "" {
			where = "file://" + objectsDir
		}
		env = append(env, plain("OBJECT_STORE_URL", where))
	}
	env = append(env, settings(spec, role)...)
	if tracing := spec.Observability.Tracing; tracing != nil && role != RoleMigrate {
		env = append(env, tracingEnvironment(stack, tracing)...)
	}
	if role == RoleMigrate {
		env = append(env, plain("BOOTSTRAP_ADMIN_EMAIL", spec.Auth.Admin.Email))
	}
	for _, ref := range usedBy(stack, role, inputs) {
		if u := ref.Input.use(); u.file != "" {
			env = append(env, plain(u.variable, u.file))
		} else {
			env = append(env, fromSecret(u.variable, ref.Name, ref.Key))
		}
	}
	return env
}

func databaseEnvironment(postgres *v1alpha1.PostgresSpec) (env []*envVar) {
	if postgres.MaxConnections != nil {
		env = append(env, plain("DATABASE_MAX_CONNS", strconv.Itoa(int(*postgres.MaxConnections))))
	}
	if postgres.CAFrom != nil {
		env = append(env, plain("PGSSLMODE", "verify-full")) // unless the URL has a mode of its own
	}
	return env
}

func kafkaEnvironment(kafka *v1alpha1.KafkaSpec) []*envVar {
	env := []*envVar{plain("KAFKA_BROKERS", strings.Join(kafka.Brokers, ",")), plain("KAFKA_TOPIC", kafka.Topic.Name)}
	if kafka.TLS != nil {
		env = append(env, plain("KAFKA_TLS", "true"))
	}
	if kafka.SASL != nil {
		env = append(env, plain("KAFKA_SASL_MECHANISM", kafka.SASL.Mechanism))
		if o := kafka.SASL.OAuth; o != nil {
			env = append(env, plain("KAFKA_OAUTH_TOKEN_URL", o.TokenURL))
			if len(o.Scopes) > 0 {
				env = append(env, plain("KAFKA_OAUTH_SCOPES", strings.Join(o.Scopes, ",")))
			}
		}
	}
	return env
}

func plain(name, value string) *envVar { return corev1ac.EnvVar().WithName(name).WithValue(value) }

func fromSecret(name, secret, key string) *envVar {
	return corev1ac.EnvVar().WithName(name).WithValueFrom(
		corev1ac.EnvVarSource().WithSecretKeyRef(corev1ac.SecretKeySelector().WithName(secret).WithKey(key)))
}
