package atlasstack_test

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// full is a spec with the children that a stack can have in this API server, but for those that wait for others: a route, which a Gateway has to accept.
// The suites of faults and of drift take it: add what makes another child here.
func full(s *v1alpha1.AtlasStackSpec) {
	s.Image = image
	s.Postgres.URLSecretRef = corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "postgres"}, Key: "url"}
	s.Kafka.Topic.Config = map[string]string{"compression.type": "zstd"}
	s.Kafka.Topic.Retention = &metav1.Duration{Duration: time.Hour}
	s.Kafka.DeletionPolicy, s.Elasticsearch.DeletionPolicy = v1alpha1.DeletionDelete, v1alpha1.DeletionDelete
	s.API = v1alpha1.ComponentSpec{
		Replicas:            ptr.To(int32(2)),
		PodDisruptionBudget: &v1alpha1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromInt32(1))},
		Resources:           corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
	}
	s.Audit = v1alpha1.ComponentSpec{
		Autoscaling: &v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 3, TargetCPUUtilizationPercentage: ptr.To(int32(70))},
		Resources:   corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
	}
	s.Networking.NetworkPolicy = &v1alpha1.NetworkPolicySpec{}
	s.Networking.Ingress = &v1alpha1.IngressSpec{Host: "atlas.example.com"}
	s.Observability.Monitor = &v1alpha1.MonitorSpec{Kind: "ServiceMonitor"}
}
