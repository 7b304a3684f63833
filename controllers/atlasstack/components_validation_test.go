package atlasstack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

func cpuRequest() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}}
}

func lag(source v1alpha1.LagSource) *v1alpha1.AutoscalingSpec {
	return &v1alpha1.AutoscalingSpec{MaxReplicas: 5, Lag: &v1alpha1.LagSpec{Target: 100, Source: source}}
}

func TestBadComponentsGetAClearAnswer(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	budget := func(least, most *intstr.IntOrString) func(*v1alpha1.AtlasStackSpec) {
		return func(s *v1alpha1.AtlasStackSpec) {
			s.API.PodDisruptionBudget = &v1alpha1.PodDisruptionBudgetSpec{MinAvailable: least, MaxUnavailable: most}
		}
	}
	scaling := func(change func(*v1alpha1.ComponentSpec)) func(*v1alpha1.AtlasStackSpec) {
		return func(s *v1alpha1.AtlasStackSpec) {
			s.Indexer = v1alpha1.ComponentSpec{Autoscaling: &v1alpha1.AutoscalingSpec{MaxReplicas: 5}, Resources: cpuRequest()}
			change(&s.Indexer)
		}
	}
	for name, tc := range map[string]struct {
		change  func(*v1alpha1.AtlasStackSpec)
		message string
	}{
		"two owners of replicas": {scaling(func(c *v1alpha1.ComponentSpec) { c.Replicas = ptr.To(int32(3)) }), "remove one of them"},
		"CPU of no request":      {scaling(func(c *v1alpha1.ComponentSpec) { c.Resources = corev1.ResourceRequirements{} }), "set resources.requests.cpu"},
		"CPU beside lag of no request": {scaling(func(c *v1alpha1.ComponentSpec) {
			c.Resources, c.Autoscaling = corev1.ResourceRequirements{}, lag("")
			c.Autoscaling.TargetCPUUtilizationPercentage = ptr.To(int32(70))
		}), "set resources.requests.cpu"},
		"limits are no requests": {scaling(func(c *v1alpha1.ComponentSpec) {
			c.Resources = corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}
		}), "set resources.requests.cpu"},
		"no maximum":       {scaling(func(c *v1alpha1.ComponentSpec) { c.Autoscaling.MaxReplicas = 0 }), "autoscaling.maxReplicas"},
		"minimum above":    {scaling(func(c *v1alpha1.ComponentSpec) { c.Autoscaling.MinReplicas = 6 }), "lower it, or raise maxReplicas"},
		"negative minimum": {scaling(func(c *v1alpha1.ComponentSpec) { c.Autoscaling.MinReplicas = -1 }), "autoscaling.minReplicas"},
		"target of nothing": {
			scaling(func(c *v1alpha1.ComponentSpec) { c.Autoscaling.TargetCPUUtilizationPercentage = ptr.To(int32(0)) }),
			"autoscaling.targetCPUUtilizationPercentage",
		},
		"lag of nothing": {scaling(func(c *v1alpha1.ComponentSpec) { c.Autoscaling.Lag = &v1alpha1.LagSpec{} }), "autoscaling.lag.target"},
		"other source":   {scaling(func(c *v1alpha1.ComponentSpec) { c.Autoscaling.Lag = &v1alpha1.LagSpec{Target: 1, Source: "Guess"} }), "autoscaling.lag.source"},
		"metric of KEDA": {scaling(func(c *v1alpha1.ComponentSpec) {
			c.Autoscaling = lag(v1alpha1.LagFromKEDA)
			c.Autoscaling.Lag.Metric = &v1alpha1.ExternalMetricSpec{Name: "x"}
		}), "metric is for the source ExternalMetric only"},
		"lag of the API": {func(s *v1alpha1.AtlasStackSpec) { s.API.Autoscaling = lag("") }, "api.autoscaling.lag does not exist"},
		"KEDA and Cloud SQL": {func(s *v1alpha1.AtlasStackSpec) {
			s.Postgres.CloudSQL = &v1alpha1.CloudSQLSpec{InstanceConnectionName: "p:r:i", Image: "example.com/proxy:2.18.2"}
			s.Worker.Autoscaling = lag(v1alpha1.LagFromKEDA)
		}, "KEDA can't reach a database behind postgres.cloudSQL"},
		"too many pods":       {func(s *v1alpha1.AtlasStackSpec) { s.API.Replicas = ptr.To(int32(1001)) }, "spec.api.replicas"},
		"budget of nothing":   {budget(nil, nil), "set exactly one of minAvailable and maxUnavailable"},
		"two budgets":         {budget(ptr.To(intstr.FromInt32(1)), ptr.To(intstr.FromInt32(1))), "set exactly one of minAvailable and maxUnavailable"},
		"budget of words":     {budget(nil, ptr.To(intstr.FromString("some"))), "want a number of pods"},
		"budget of too much":  {budget(ptr.To(intstr.FromString("101%")), nil), "want a number of pods"},
		"budget below zero":   {budget(ptr.To(intstr.FromInt32(-1)), nil), "want a number of pods"},
		"budget, number text": {budget(ptr.To(intstr.FromString("1")), nil), "want a number of pods"},
		"spread twice": {func(s *v1alpha1.AtlasStackSpec) {
			one := corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: corev1.ScheduleAnyway}
			s.API.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{one, one}
		}, "Duplicate value"},
	} {
		err := b.client.Create(t.Context(), b.stack(tc.change), client.DryRunAll)
		require.ErrorContains(t, err, tc.message, name)
	}
}

func TestGoodComponentsAreTaken(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	for name, change := range map[string]func(*v1alpha1.AtlasStackSpec){
		"CPU": func(s *v1alpha1.AtlasStackSpec) {
			s.API.Resources, s.API.Autoscaling = cpuRequest(), &v1alpha1.AutoscalingSpec{MaxReplicas: 2}
		},
		"lag":     func(s *v1alpha1.AtlasStackSpec) { s.Worker.Autoscaling = lag("") },
		"KEDA":    func(s *v1alpha1.AtlasStackSpec) { s.Worker.Autoscaling = lag(v1alpha1.LagFromKEDA) },
		"no pods": func(s *v1alpha1.AtlasStackSpec) { s.API.Replicas = ptr.To(int32(0)) },
		"budget": func(s *v1alpha1.AtlasStackSpec) {
			s.API.PodDisruptionBudget = &v1alpha1.PodDisruptionBudgetSpec{MaxUnavailable: ptr.To(intstr.FromInt32(0))}
		},
		"budget part": func(s *v1alpha1.AtlasStackSpec) {
			s.API.PodDisruptionBudget = &v1alpha1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("100%"))}
		},
		"template": func(s *v1alpha1.AtlasStackSpec) {
			s.API.PodTemplate = &runtime.RawExtension{Raw: []byte(`{"spec":{"containers":[{"name":"x","$patch":"delete"}]}}`)}
		},
	} {
		require.NoError(t, b.client.Create(t.Context(), b.stack(change), client.DryRunAll), name)
	}
}

func TestSettingsThatTheRolesWouldRefuse(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	const overflow = "9999999999999999h"
	for _, tc := range []struct {
		path    []string
		value   any
		message string // "" when it is taken
	}{
		{[]string{"auth", "accessTokenLifetime"}, "999ms", "shorter than a second"},
		{[]string{"auth", "accessTokenLifetime"}, "0s", "shorter than a second"},
		{[]string{"auth", "accessTokenLifetime"}, "15", "spec.auth.accessTokenLifetime"},
		{[]string{"auth", "accessTokenLifetime"}, "-1h", "spec.auth.accessTokenLifetime"},
		{[]string{"auth", "accessTokenLifetime"}, overflow, "spec.auth"},
		{[]string{"auth", "accessTokenLifetime"}, "721h", "refreshTokenLifetime (720h when it is not set) is shorter"},
		{[]string{"auth", "accessTokenLifetime"}, "720h", ""},
		{[]string{"auth", "refreshTokenLifetime"}, "14m", "refreshTokenLifetime (720h when it is not set) is shorter"},
		{[]string{"auth", "refreshTokenLifetime"}, "15m", ""},
		{[]string{"auth", "refreshTokenLifetime"}, overflow, "spec.auth"},
		{[]string{"auth", "registration"}, "open", "spec.auth.registration"},
		{[]string{"auth", "registration"}, "Closed", ""},
		{[]string{"retention", "trash"}, "0h", "retention.trash is zero"},
		{[]string{"retention", "jobs"}, "0s", "retention.jobs is zero"},
		{[]string{"retention", "files"}, "0.0m", "retention.files is zero"},
		{[]string{"retention", "files"}, overflow, "spec.retention.files"},
		{[]string{"retention", "files"}, "1h30m", ""},
		// One that can't be decoded would keep the operator from reading any stack.
		{[]string{"kafka", "topic", "retention"}, overflow, "spec.kafka.topic.retention"},
		{[]string{"kafka", "deadLetterTopic", "retention"}, overflow, "spec.kafka.deadLetterTopic.retention"},
		{[]string{"elasticsearch", "index", "refreshInterval"}, overflow, "spec.elasticsearch.index.refreshInterval"},
		{[]string{"observability", "monitor", "interval"}, overflow, "spec.observability.monitor.interval"},
		{[]string{"auth", "signingKeyRotation", "interval"}, overflow, "spec.auth.signingKeyRotation"},
		{[]string{"enrichment", "allowCIDRs"}, []any{"10.0.0.0"}, "want a CIDR"},
		{[]string{"enrichment", "denyCIDRs"}, []any{"fd00::/129"}, "want a CIDR"},
		{[]string{"enrichment", "denyCIDRs"}, []any{"fd00::/8", "10.0.0.0/8"}, ""},
		{[]string{"enrichment", "contact"}, "someone (me)", "spec.enrichment.contact"},
		{[]string{"networking", "trustedProxies"}, []any{"proxy"}, "want a CIDR"},
		{[]string{"networking", "requestsPerMinute"}, int64(1_000_001), "spec.networking.requestsPerMinute"},
		{[]string{"networking", "corsOrigins"}, []any{"https://App.example.com"}, "want an origin as browsers send it"},
		{[]string{"networking", "corsOrigins"}, []any{"https://app.example.com/"}, "want an origin as browsers send it"},
		{[]string{"networking", "corsOrigins"}, []any{"https://app.example.com:443"}, "want an origin as browsers send it"},
		{[]string{"networking", "corsOrigins"}, []any{"http://app.example.com:80"}, "want an origin as browsers send it"},
		{[]string{"networking", "corsOrigins"}, []any{"https://u@app.example.com"}, "want an origin as browsers send it"},
		{[]string{"networking", "corsOrigins"}, []any{"ftp://app.example.com"}, "want an origin as browsers send it"},
		{[]string{"networking", "corsOrigins"}, []any{"*"}, "want an origin as browsers send it"},
		{[]string{"networking", "corsOrigins"}, []any{"https://app.example.com", "http://[::1]:3000", "http://localhost:8080"}, ""},
	} {
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(b.stack())
		require.NoError(t, err)
		stack := &unstructured.Unstructured{Object: object}
		stack.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AtlasStack"))
		require.NoError(t, unstructured.SetNestedField(stack.Object, tc.value, append([]string{"spec"}, tc.path...)...))
		err = b.client.Create(t.Context(), stack, client.DryRunAll)
		if tc.message == "" {
			require.NoError(t, err, "%v: %v", tc.path, tc.value)
		} else {
			require.ErrorContains(t, err, tc.message, "%v: %v", tc.path, tc.value)
		}
	}
	err := b.client.Create(t.Context(), b.stack(func(s *v1alpha1.AtlasStackSpec) {
		s.Auth.AccessTokenLifetime, s.Auth.RefreshTokenLifetime = &metav1.Duration{Duration: time.Hour}, &metav1.Duration{Duration: time.Minute}
	}), client.DryRunAll)
	require.ErrorContains(t, err, "raise it, or lower accessTokenLifetime")
}
