package workloads

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	strictjson "sigs.k8s.io/json"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// TemplateError tells that a podTemplate can't be used. A person has to change it.
type TemplateError struct {
	Role    Role
	Problem string // what is wrong and the way out
}

func (e *TemplateError) Error() string {
	return fmt.Sprintf("spec.%s.podTemplate %s", e.Role, e.Problem)
}

// protectedLabels are those that the selectors of Deployments, Services, budgets and of the operator itself need.
func protectedLabels() []string {
	return []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", ComponentLabel, StackLabel}
}

// override merges the user's template over the built one, as kubectl patch --type=strategic does.
func override(stack *v1alpha1.AtlasStack, role Role, built *corev1ac.PodTemplateSpecApplyConfiguration) (*corev1ac.PodTemplateSpecApplyConfiguration, error) {
	user := Component(stack, role).PodTemplate
	if user == nil || len(user.Raw) == 0 {
		return built, nil
	}
	merged, err := merge(built, user.Raw)
	if err == nil {
		err = checkProtected(built, merged)
	}
	if err != nil {
		return nil, &TemplateError{Role: role, Problem: err.Error()}
	}
	return merged, nil
}

func merge(built *corev1ac.PodTemplateSpecApplyConfiguration, patch []byte) (merged *corev1ac.PodTemplateSpecApplyConfiguration, err error) {
	// The patch is anything that is an object, and the library takes the types in it for granted in places.
	defer func() {
		if p := recover(); p != nil {
			merged, err = nil, fmt.Errorf("can't be merged (%v): write it as the template of a Deployment", p)
		}
	}()
	original, err := json.Marshal(built)
	if err != nil {
		return nil, fmt.Errorf("can't be merged, the operator's own does not encode: %w", err)
	}
	body, err := strategicpatch.StrategicMergePatch(original, patch, corev1.PodTemplateSpec{})
	if err != nil {
		return nil, fmt.Errorf("can't be merged: %w: write it as the template of a Deployment, each container, volume and variable with its name", err)
	}
	// Strictly, for a misspelt field would change nothing and nobody would know.
	unknown, err := strictjson.UnmarshalStrict(body, &corev1.PodTemplateSpec{})
	if err != nil {
		return nil, fmt.Errorf("is no pod template: %w: correct the field", err)
	}
	if err := errors.Join(unknown...); err != nil {
		return nil, fmt.Errorf("is no pod template: %w: correct or remove the field", err)
	}
	merged = &corev1ac.PodTemplateSpecApplyConfiguration{}
	if err := json.Unmarshal(body, merged); err != nil {
		return nil, fmt.Errorf("is no pod template: %w: correct the field", err)
	}
	return merged, nil
}

// checkProtected refuses what would take the pods away from those who select them, hide that their configuration changed, or let them run another image
// than the one that the database was migrated for.
func checkProtected(built, merged *corev1ac.PodTemplateSpecApplyConfiguration) error {
	var labels, annotations map[string]string
	if merged.ObjectMetaApplyConfiguration != nil {
		labels, annotations = merged.Labels, merged.Annotations
	}
	for _, key := range protectedLabels() {
		if labels[key] != built.Labels[key] {
			return fmt.Errorf("changes the label %s, by which the pods are found: remove it from there", key)
		}
	}
	if annotations[ConfigHashAnnotation] != built.Annotations[ConfigHashAnnotation] {
		return fmt.Errorf("changes the annotation %s, which the operator keeps: remove it from there", ConfigHashAnnotation)
	}
	if merged.Spec == nil {
		return errors.New("removes spec: remove that from it")
	}
	i := slices.IndexFunc(merged.Spec.Containers, func(c corev1ac.ContainerApplyConfiguration) bool { return c.Name != nil && *c.Name == ContainerName })
	if i < 0 {
		return fmt.Errorf("removes the container %s, which is the role itself: keep it", ContainerName)
	}
	if image := merged.Spec.Containers[i].Image; image == nil || *image != *built.Spec.Containers[0].Image {
		return fmt.Errorf("changes the image of the container %s, for which the database would not be migrated: set spec.image", ContainerName)
	}
	return nil
}
