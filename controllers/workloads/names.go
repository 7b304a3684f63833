// Package workloads builds every Kubernetes object of a stack: pure functions from the AtlasStack and the contents of its
// Secrets to apply configurations. Nothing here depends on the operator's own version, so upgrading it rolls no pod.
package workloads

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Role is a subcommand of the data plane's binary.
type Role string

// The roles that run as Deployments, and the migration that runs as a Job.
const (
	RoleAPI     Role = "api"
	RoleIndexer Role = "indexer"
	RoleAudit   Role = "audit"
	RoleWorker  Role = "worker"
	RoleMigrate Role = "migrate"
)

// Roles are the roles that run as Deployments, in the order in which they are reported.
func Roles() []Role { return []Role{RoleAPI, RoleIndexer, RoleAudit, RoleWorker} }

const (
	// StackLabel is on everything that belongs to a stack; the operator's caches hold only objects that have it.
	StackLabel = "platform.atlas.dev/stack"
	// ConfigHashAnnotation is on pod templates: it changes when, and only when, the role's configuration or a Secret it uses does.
	ConfigHashAnnotation = "platform.atlas.dev/config-hash"
	// AttemptAnnotation counts the migration Jobs that failed with the same inputs before this one.
	AttemptAnnotation = "platform.atlas.dev/attempt"
)

// The keys of the Secrets that the operator generates.
const (
	SigningKeyKey    = "signing-key.pem"
	AdminEmailKey    = "email"
	AdminPasswordKey = "password"
)

// The keys that a Secret with Elasticsearch credentials may have.
const (
	ElasticUsernameKey = "username"
	ElasticPasswordKey = "password"
	ElasticAPIKeyKey   = "apiKey"
)

const (
	userID   = 65532
	httpPort = 8080
	opsPort  = 9090
)

// Name is the name of a role's objects.
func Name(stack *v1alpha1.AtlasStack, role Role) string { return stack.Name + "-" + string(role) }

// AuthSecretName is the Secret with the generated signing key.
func AuthSecretName(stack *v1alpha1.AtlasStack) string { return stack.Name + "-auth" }

// AdminSecretName is the Secret with the generated admin login.
func AdminSecretName(stack *v1alpha1.AtlasStack) string { return stack.Name + "-admin" }

// Endpoint is the REST API's URL inside the cluster.
func Endpoint(stack *v1alpha1.AtlasStack) string {
	return fmt.Sprintf("http://%s.%s.svc", Name(stack, RoleAPI), stack.Namespace)
}

// SecretKey is one key of a Secret in the stack's namespace.
type SecretKey struct {
	Name, Key string
	// Generated is true when the operator makes the Secret.
	Generated bool
}

// DatabaseURL is where the database's URL is.
func DatabaseURL(stack *v1alpha1.AtlasStack) SecretKey {
	ref := stack.Spec.Postgres.URLSecretRef
	return SecretKey{Name: ref.Name, Key: ref.Key}
}

// SigningKey is where the API's signing key is.
func SigningKey(stack *v1alpha1.AtlasStack) SecretKey {
	if ref := stack.Spec.Auth.SigningKeySecretRef; ref != nil {
		return SecretKey{Name: ref.Name, Key: ref.Key}
	}
	return SecretKey{Name: AuthSecretName(stack), Key: SigningKeyKey, Generated: true}
}

// AdminPassword is where the admin's password is.
func AdminPassword(stack *v1alpha1.AtlasStack) SecretKey {
	if ref := stack.Spec.Auth.Admin.PasswordSecretRef; ref != nil {
		return SecretKey{Name: ref.Name, Key: ref.Key}
	}
	return SecretKey{Name: AdminSecretName(stack), Key: AdminPasswordKey, Generated: true}
}

// Version is the tag of an image, or its digest when it has no tag.
func Version(image string) string {
	name, digest, hasDigest := strings.Cut(image, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		return name[i+1:]
	}
	if hasDigest {
		return digest
	}
	return ""
}

// Labels are the labels of everything that belongs to a role.
func Labels(stack *v1alpha1.AtlasStack, role Role) map[string]string {
	labels := selector(stack, role)
	labels["app.kubernetes.io/part-of"] = "atlas"
	labels["app.kubernetes.io/managed-by"] = "atlas-operator"
	labels[StackLabel] = stack.Name
	return labels
}

// selector is the part of the labels that selects pods. It can't change, because a Deployment's selector can't.
func selector(stack *v1alpha1.AtlasStack, role Role) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":      "atlas",
		"app.kubernetes.io/instance":  stack.Name,
		"app.kubernetes.io/component": string(role),
	}
}

// owner makes the garbage collector remove an object with its stack.
func owner(stack *v1alpha1.AtlasStack) *metav1ac.OwnerReferenceApplyConfiguration {
	ref := metav1.NewControllerRef(stack, v1alpha1.GroupVersion.WithKind("AtlasStack"))
	// blockOwnerDeletion is left out: nothing here needs to be gone before the stack is.
	return metav1ac.OwnerReference().WithAPIVersion(ref.APIVersion).WithKind(ref.Kind).
		WithName(ref.Name).WithUID(ref.UID).WithController(true)
}
