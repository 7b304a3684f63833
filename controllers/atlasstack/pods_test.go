package atlasstack

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/controllers/workloads"
)

func TestExplainPod(t *testing.T) {
	t.Parallel()
	container := func(s corev1.ContainerStatus) corev1.PodStatus {
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{s}}
	}
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	exit := func(code int32, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: code, Message: message}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, tc := range []struct {
		name   string
		status corev1.PodStatus
		want   string
	}{
		{name: "starting", status: container(corev1.ContainerStatus{State: waiting("ContainerCreating", "")})},
		{name: "finished", status: container(corev1.ContainerStatus{State: exit(0, "bye")})},
		{name: "ready", status: container(corev1.ContainerStatus{State: running, Started: ptr.To(true), Ready: true})},
		{name: "starts", status: container(corev1.ContainerStatus{State: running, Started: ptr.To(false)})},
		{
			name:   "not ready",
			status: container(corev1.ContainerStatus{State: running, Started: ptr.To(true)}),
			want:   "it runs, but its readiness probe fails: its log says why",
		},
		{name: "failed with a log", status: container(corev1.ContainerStatus{State: exit(1, "one\ntwo\n")}), want: "two"},
		{name: "failed silently", status: container(corev1.ContainerStatus{State: exit(137, "")}), want: "Error, exit code 137"},
		{
			name:   "failed with a structured log",
			status: container(corev1.ContainerStatus{State: exit(1, `{"level":"ERROR","msg":"migrate","err":"no route"}`)}),
			want:   "migrate: no route",
		},
		{
			name:   "image missing",
			status: container(corev1.ContainerStatus{Name: "atlas", Image: "x:1", State: waiting("ErrImagePull", "rpc error: code = NotFound desc = x:1: not found")}),
			want:   "image x:1 can't be pulled (x:1: not found): correct spec.image, or spec.imagePullSecrets",
		},
		{
			name: "image still missing",
			status: container(corev1.ContainerStatus{
				Name: "atlas", Image: "x:1", State: waiting("ImagePullBackOff", `Back-off pulling image "x:1": ErrImagePull: rpc error: code = NotFound desc = x:1: not found`),
			}),
			want: "image x:1 can't be pulled (x:1: not found): correct spec.image, or spec.imagePullSecrets",
		},
		{
			name:   "image missing, without a reason",
			status: container(corev1.ContainerStatus{Name: "atlas", Image: "x:1", State: waiting("ImagePullBackOff", `Back-off pulling image "x:1"`)}),
			want:   "image x:1 can't be pulled: correct spec.image, or spec.imagePullSecrets",
		},
		{
			name:   "no image",
			status: container(corev1.ContainerStatus{Name: "atlas", Image: "X", State: waiting("InvalidImageName", "couldn't parse image name")}),
			want:   "image X can't be pulled (couldn't parse image name): correct spec.image, or spec.imagePullSecrets",
		},
		{
			name: "image of another container missing",
			status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "proxy", Image: "p:1", State: waiting("ErrImagePull", "not found")},
			}},
			want: "image p:1 can't be pulled (not found): correct the image of the container proxy, or spec.imagePullSecrets",
		},
		{
			name:   "crash loop",
			status: container(corev1.ContainerStatus{State: waiting("CrashLoopBackOff", "back-off"), LastTerminationState: exit(2, "bad config")}),
			want:   "CrashLoopBackOff: bad config",
		},
		{
			name: "unschedulable",
			status: corev1.PodStatus{Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes"},
			}},
			want: "Unschedulable: 0/1 nodes",
		},
		{name: "evicted", status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "low on memory"}, want: "Evicted: low on memory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, explainPod(&corev1.Pod{Status: tc.status}))
		})
	}
}

func TestOnlyPodsOfTheRevisionCount(t *testing.T) {
	t.Parallel()
	ready := func(replicas, updated, ready int32) int32 {
		return readyOfRevision(&appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Generation: 2},
			Status:     appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: replicas, UpdatedReplicas: updated, ReadyReplicas: ready},
		}, 2)
	}
	require.Equal(t, int32(0), ready(2, 1, 1), "the old one serves")
	require.Equal(t, int32(1), ready(2, 1, 2))
	require.Equal(t, int32(0), ready(3, 1, 1))
	require.Equal(t, int32(0), readyOfRevision(&appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Generation: 2},
		Status:     appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1},
	}, 2), "the status speaks of the revision before")
}

func TestRedactHidesSecretsInEveryForm(t *testing.T) {
	t.Parallel()
	before := &recipe{inputs: workloads.Inputs{workloads.DatabaseURL: []byte("postgres://atlas:earlierpass@db/atlas")}}
	p := &pass{memory: &remembered{made: map[workloads.Role]*recipe{workloads.RoleAPI: before}}, inputs: workloads.Inputs{
		workloads.DatabaseURL:           []byte("postgres://atlas:p%40ss%21word@db/atlas"),
		workloads.AdminPassword:         []byte("adminpass"),
		workloads.ElasticsearchUsername: []byte("elastic"),
		workloads.ElasticsearchPassword: []byte("espass"),
		workloads.ObjectsAccessKey:      []byte("AKIA"),
		workloads.ObjectsSecretKey:      []byte("s3secret"),
	}}
	require.Equal(t, "[redacted] [redacted] [redacted] [redacted] [redacted] elastic [redacted] AKIA [redacted]",
		p.redact("earlierpass postgres://atlas:p%40ss%21word@db/atlas p@ss!word p%40ss%21word adminpass elastic espass AKIA s3secret"))
}

func TestRolledOutNeedsEveryPartOfTheStatus(t *testing.T) {
	t.Parallel()
	done := appsv1.DeploymentStatus{ObservedGeneration: 4, Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 3}
	is := func(generation int64, change func(*appsv1.DeploymentStatus)) bool {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: generation}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To(int32(3))}, Status: done}
		change(&d.Status)
		return rolledOut(d, 4)
	}
	require.True(t, is(4, func(*appsv1.DeploymentStatus) {}))
	require.True(t, is(5, func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = 5 }), "somebody else has changed it since")
	require.False(t, is(3, func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = 3 }), "the cache does not have what was applied yet")
	require.False(t, is(4, func(s *appsv1.DeploymentStatus) { s.ObservedGeneration = 3 }))
	require.False(t, is(4, func(s *appsv1.DeploymentStatus) { s.Replicas = 4 }))
	require.False(t, is(4, func(s *appsv1.DeploymentStatus) { s.UpdatedReplicas = 2 }))
	require.False(t, is(4, func(s *appsv1.DeploymentStatus) { s.AvailableReplicas = 2 }))
}
