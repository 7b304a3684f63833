package atlasstack

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/atlas-platform/atlas/controllers/workloads"
)

// podName is what an answer of the API server about a pod begins with. The name is another one each time.
var podName = regexp.MustCompile(`^pods "[^"]*" is (forbidden|invalid): `)

// replicaFailure is why a Deployment's pods can't be made, "" when they can.
func replicaFailure(d *appsv1.Deployment) string {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return cmp.Or(podName.ReplaceAllString(c.Message, ""), c.Reason)
		}
	}
	return ""
}

// explainReplicaFailure adds what to change to why the pods of a role can't be made.
func explainReplicaFailure(role workloads.Role, failure string) string {
	hint := "correct spec.%[1]s, or what refuses it"
	switch {
	case strings.Contains(failure, "PriorityClass"):
		hint = "correct spec.%[1]s.priorityClassName, or make that PriorityClass"
	case strings.Contains(failure, "quota"):
		hint = "set or lower spec.%[1]s.resources, or the number of pods, or raise the ResourceQuota of the namespace"
	case strings.Contains(failure, "PodSecurity"):
		hint = "correct spec.%[1]s.podTemplate, or the label pod-security.kubernetes.io/enforce of the namespace"
	case strings.Contains(failure, "per Container"), strings.Contains(failure, "per Pod"):
		hint = "correct spec.%[1]s.resources, or the LimitRange of the namespace"
	}
	return failure + ": " + fmt.Sprintf(hint, role)
}
