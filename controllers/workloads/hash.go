package workloads

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// ConfigHash is one hash over a role's environment and the contents of what it refers to.
func ConfigHash(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) (string, error) {
	return hash(environment(stack, role, inputs), contents(stack, role, inputs))
}

// MigrationInputs is one hash over everything that a migration depends on: image, database and admin login.
func MigrationInputs(stack *v1alpha1.AtlasStack, inputs Inputs) (string, error) {
	parts := []any{stack.Spec.Image, stack.Spec.Auth.Admin.Email, contents(stack, RoleMigrate, inputs)}
	if sql := stack.Spec.Postgres.CloudSQL; sql != nil {
		parts = append(parts, sql.InstanceConnectionName) // the URI names this machine only
	}
	return hash(parts...)
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
