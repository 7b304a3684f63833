package workloads

import (
	"strings"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Where files are mounted.
const (
	signingKeyDir = "/etc/atlas/auth"
	adminDir      = "/etc/atlas/admin"
)

func usesKafka(role Role) bool { return role == RoleAPI || role == RoleIndexer || role == RoleAudit }

func consumesKafka(role Role) bool { return role == RoleIndexer || role == RoleAudit }

func usesElasticsearch(role Role) bool {
	return role == RoleAPI || role == RoleIndexer || role == RoleWorker
}

// environment is the environment of a role, as docs/architecture.md lists it. What is left to its default is not set.
func environment(stack *v1alpha1.AtlasStack, role Role, secrets Secrets) []*envVar {
	spec := &stack.Spec
	database := DatabaseURL(stack)
	env := []*envVar{
		plain("LOG_LEVEL", spec.LogLevel),
		fromSecret("DATABASE_URL", database.Name, database.Key),
	}
	if usesKafka(role) {
		env = append(env,
			plain("KAFKA_BROKERS", strings.Join(spec.Kafka.Brokers, ",")),
			plain("KAFKA_TOPIC", spec.Kafka.Topic.Name))
	}
	if consumesKafka(role) {
		// Offsets belong to a topic. Stacks that share a Kafka have topics of their own, and so must the groups be.
		env = append(env, plain("KAFKA_GROUP_PREFIX", spec.Kafka.Topic.Name))
	}
	if usesElasticsearch(role) {
		env = append(env,
			plain("ELASTICSEARCH_URL", strings.Join(spec.Elasticsearch.Addresses, ",")),
			plain("ELASTICSEARCH_INDEX", spec.Elasticsearch.Index.Alias))
		variables := map[string]string{
			ElasticAPIKeyKey: "ELASTICSEARCH_API_KEY", ElasticUsernameKey: "ELASTICSEARCH_USERNAME", ElasticPasswordKey: "ELASTICSEARCH_PASSWORD",
		}
		for _, key := range secrets.ElasticsearchKeys() {
			env = append(env, fromSecret(variables[key], spec.Elasticsearch.CredentialsSecretRef.Name, key))
		}
	}
	switch role {
	case RoleAPI:
		env = append(env, plain("JWT_SIGNING_KEY_FILE", signingKeyDir+"/"+SigningKeyKey))
	case RoleMigrate:
		env = append(env,
			plain("BOOTSTRAP_ADMIN_EMAIL", spec.Auth.Admin.Email),
			plain("BOOTSTRAP_ADMIN_PASSWORD_FILE", adminDir+"/"+AdminPasswordKey))
	case RoleIndexer, RoleAudit, RoleWorker:
	}
	return env
}

func plain(name, value string) *envVar { return corev1ac.EnvVar().WithName(name).WithValue(value) }

func fromSecret(name, secret, key string) *envVar {
	return corev1ac.EnvVar().WithName(name).WithValueFrom(
		corev1ac.EnvVarSource().WithSecretKeyRef(corev1ac.SecretKeySelector().WithName(secret).WithKey(key)))
}
