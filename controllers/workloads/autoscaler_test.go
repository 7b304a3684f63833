package workloads_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

func lag(source v1alpha1.LagSource, target int64) *v1alpha1.LagSpec {
	return &v1alpha1.LagSpec{Source: source, Target: target}
}

func TestHorizontalPodAutoscalers(t *testing.T) {
	t.Parallel()
	stack := plainStack()
	stack.Spec.API.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 10, Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleDown: &autoscalingv2.HPAScalingRules{
			StabilizationWindowSeconds: ptr.To(int32(600)),
			Policies:                   []autoscalingv2.HPAScalingPolicy{{Type: autoscalingv2.PodsScalingPolicy, Value: 1, PeriodSeconds: 60}},
		},
	}}
	stack.Spec.Indexer.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 6, Lag: lag(v1alpha1.LagFromExternalMetric, 1000)}
	stack.Spec.Audit.Autoscaling = &v1alpha1.AutoscalingSpec{
		MinReplicas: 1, MaxReplicas: 6, TargetCPUUtilizationPercentage: ptr.To(int32(70)),
		Lag: &v1alpha1.LagSpec{Target: 5000, Metric: &v1alpha1.ExternalMetricSpec{
			Name:     "pubsub_lag",
			Selector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "group", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}}}},
		}},
	}
	stack.Spec.Worker.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 4, Lag: lag("", 20)}
	var objects []any
	for _, role := range workloads.Roles() {
		require.Equal(t, workloads.HorizontalAutoscaler, workloads.AutoscalerOf(stack, role))
		scaler, err := workloads.HorizontalPodAutoscaler(stack, role)
		require.NoError(t, err)
		objects = append(objects, scaler)
		deployment, err := workloads.Deployment(stack, role, plainInputs())
		require.NoError(t, err)
		require.Nil(t, deployment.Spec.Replicas, "an autoscaler owns them")
	}
	golden(t, "autoscalers", objects...)

	stack.Spec.Hibernate = true
	for _, role := range workloads.Roles() {
		require.Equal(t, workloads.NoAutoscaler, workloads.AutoscalerOf(stack, role))
		deployment, err := workloads.Deployment(stack, role, plainInputs())
		require.NoError(t, err)
		require.Zero(t, *deployment.Spec.Replicas)
	}
}

func TestKEDA(t *testing.T) {
	t.Parallel()
	full, inputs := fullStack()
	oauth := full.DeepCopy()
	oauth.Spec.Kafka.SASL = &v1alpha1.KafkaSASLSpec{
		Mechanism: "OAUTHBEARER", CredentialsSecretRef: corev1.LocalObjectReference{Name: "kafka-client"},
		OAuth: &v1alpha1.KafkaOAuthSpec{TokenURL: "https://login.example.com/token", Scopes: []string{"kafka", "atlas"}},
	}
	inputs[workloads.KafkaClientID], inputs[workloads.KafkaClientSecret] = []byte("id"), []byte("secret")
	for name, stack := range map[string]*v1alpha1.AtlasStack{"keda-plain": plainStack(), "keda-scram": full, "keda-oauth": oauth} {
		scaling := v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 12, Lag: lag(v1alpha1.LagFromKEDA, 500)}
		stack.Spec.Indexer.Autoscaling, stack.Spec.Audit.Autoscaling, stack.Spec.Worker.Autoscaling = &scaling, scaling.DeepCopy(), scaling.DeepCopy()
		stack.Spec.Audit.Autoscaling.TargetCPUUtilizationPercentage = ptr.To(int32(60))
		stack.Spec.Audit.Autoscaling.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
			ScaleUp: &autoscalingv2.HPAScalingRules{SelectPolicy: ptr.To(autoscalingv2.DisabledPolicySelect)},
		}
		have := inputs
		if name == "keda-plain" {
			have = plainInputs()
		}
		var objects []any
		for _, role := range []workloads.Role{workloads.RoleIndexer, workloads.RoleAudit, workloads.RoleWorker} {
			require.Equal(t, workloads.KEDAAutoscaler, workloads.AutoscalerOf(stack, role))
			if login := workloads.TriggerAuthentication(stack, role, have); login != nil {
				objects = append(objects, login)
			}
			scaled, err := workloads.ScaledObject(stack, role, have)
			require.NoError(t, err)
			objects = append(objects, scaled)
		}
		golden(t, name, objects...)
	}
	stack := plainStack()
	stack.Spec.Indexer.Autoscaling = &v1alpha1.AutoscalingSpec{MaxReplicas: 2, Lag: lag(v1alpha1.LagFromKEDA, 1)}
	require.Nil(t, workloads.TriggerAuthentication(stack, workloads.RoleIndexer, plainInputs()), "an open Kafka needs none")
}
