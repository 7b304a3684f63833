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
	// ManagedByLabel is on everything that the operator makes, with the value ManagedBy.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedBy is the operator.
	ManagedBy = "atlas-operator"
	// ConfigHashAnnotation is on pod templates: it changes when, and only when, the role's configuration or a Secret it uses does.
	ConfigHashAnnotation = "platform.atlas.dev/config-hash"
	// AttemptAnnotation counts the migration Jobs that failed with the same inputs before this one.
	AttemptAnnotation = "platform.atlas.dev/attempt"
)

// ComponentLabel says the role.
const ComponentLabel = "app.kubernetes.io/component"

// The keys of the Secrets that the operator generates.
const (
	SigningKeyKey    = "signing-key.pem"
	AcceptedKeyKey   = "accepted-key.pem"
	AdminEmailKey    = "email"
	AdminPasswordKey = "password"
)

const (
	userID   = 65532
	httpPort = 8080
	opsPort  = 9090
	// servicePort is the port of the REST API's Service.
	servicePort = 80
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

// Version is what a spec calls the version of its image: by default its tag, or its digest when it has no tag.
func Version(spec *v1alpha1.AtlasStackSpec) string {
	if spec.Version != "" {
		return spec.Version
	}
	name, digest, hasDigest := strings.Cut(spec.Image, "@")
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
	labels := sharedLabels(stack)
	labels[ComponentLabel] = string(role)
	return labels
}

// sharedLabels are the labels of what belongs to a stack as a whole.
func sharedLabels(stack *v1alpha1.AtlasStack) map[string]string {
	labels := selector(stack, "")
	delete(labels, ComponentLabel)
	labels["app.kubernetes.io/part-of"] = "atlas"
	labels[ManagedByLabel] = ManagedBy
	labels[StackLabel] = stack.Name
	return labels
}

// selector is the part of the labels that selects pods. It can't change, because a Deployment's selector can't.
func selector(stack *v1alpha1.AtlasStack, role Role) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":     "atlas",
		"app.kubernetes.io/instance": stack.Name,
		ComponentLabel:               string(role),
	}
}

// owner makes the garbage collector remove an object with its stack.
func owner(stack *v1alpha1.AtlasStack) *metav1ac.OwnerReferenceApplyConfiguration {
	ref := Owner(stack)
	return metav1ac.OwnerReference().WithAPIVersion(ref.APIVersion).WithKind(ref.Kind).
		WithName(ref.Name).WithUID(ref.UID).WithController(true)
}

// Owner is the reference to a stack that is on everything it controls.
func Owner(stack *v1alpha1.AtlasStack) metav1.OwnerReference {
	ref := metav1.NewControllerRef(stack, v1alpha1.GroupVersion.WithKind("AtlasStack"))
	ref.BlockOwnerDeletion = nil // nothing here needs to be gone before the stack is
	return *ref
}
