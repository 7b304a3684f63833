package atlasstack

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/atlas-platform/atlas/controllers/workloads"
)

func TestReplicaFailuresSayTheWayOut(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`pods "demo-api-6f5b-" is forbidden: no PriorityClass with name nope was found`:                             `no PriorityClass with name nope was found: correct spec.api.priorityClassName, or make that PriorityClass`,
		`pods "demo-api-6f5b-x1" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1`: `exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1: set or lower spec.api.resources, or the number of pods, or raise the ResourceQuota of the namespace`,
		`pods "demo-api-6f5b-x2" is forbidden: failed quota: q: must specify limits.cpu for: atlas`:                 `failed quota: q: must specify limits.cpu for: atlas: set or lower spec.api.resources, or the number of pods, or raise the ResourceQuota of the namespace`,
		`pods "demo-api-6f5b-x3" is forbidden: violates PodSecurity "restricted:latest": privileged`:                `violates PodSecurity "restricted:latest": privileged: correct spec.api.podTemplate, or the label pod-security.kubernetes.io/enforce of the namespace`,
		`pods "demo-api-6f5b-x4" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi`:         `maximum memory usage per Container is 1Gi, but limit is 2Gi: correct spec.api.resources, or the LimitRange of the namespace`,
		`Internal error occurred: failed calling webhook "policy.example.com": denied`:                              `Internal error occurred: failed calling webhook "policy.example.com": denied: correct spec.api, or what refuses it`,
	} {
		d := &appsv1.Deployment{Status: appsv1.DeploymentStatus{Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: message},
		}}}
		require.Equal(t, want, explainReplicaFailure(workloads.RoleAPI, replicaFailure(d)))
	}
	require.Empty(t, replicaFailure(&appsv1.Deployment{}))
}
