package workloads

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// Secrets are the contents of the Secrets that a stack uses. Pods get references to the Secrets, never the contents;
// these go into hashes.
type Secrets struct {
	DatabaseURL   []byte
	SigningKey    []byte
	AdminPassword []byte
	// Elasticsearch are the credentials by their key in the Secret: apiKey, or username and password, or none.
	Elasticsearch map[string][]byte
}

// ElasticsearchKeys are the keys that pods take from the Elasticsearch Secret.
func (s Secrets) ElasticsearchKeys() []string { return slices.Sorted(maps.Keys(s.Elasticsearch)) }

// usedBy are the contents that a role's pods depend on.
func (s Secrets) usedBy(role Role) map[string][]byte {
	used := map[string][]byte{"database": s.DatabaseURL}
	if role == RoleAPI {
		used["signing-key"] = s.SigningKey
	}
	if role == RoleMigrate {
		used["admin-password"] = s.AdminPassword
	}
	if usesElasticsearch(role) {
		for key, value := range s.Elasticsearch {
			used["elasticsearch/"+key] = value
		}
	}
	return used
}

// ConfigHash is one hash over a role's environment and the contents of the Secrets it uses.
func ConfigHash(stack *v1alpha1.AtlasStack, role Role, secrets Secrets) (string, error) {
	return hash(environment(stack, role, secrets), secrets.usedBy(role))
}

// MigrationInputs is one hash over everything that a migration depends on: image, database and admin login.
func MigrationInputs(stack *v1alpha1.AtlasStack, secrets Secrets) (string, error) {
	return hash(stack.Spec.Image, stack.Spec.Auth.Admin.Email, secrets.usedBy(RoleMigrate))
}

func hash(parts ...any) (string, error) {
	// Lists of environment variables keep their order and maps are sorted, so equal inputs have equal bytes.
	body, err := json.Marshal(parts)
	if err != nil {
		return "", fmt.Errorf("encode what to hash: %w", err)
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:]), nil
}

type envVar = corev1ac.EnvVarApplyConfiguration
