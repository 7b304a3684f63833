package workloads_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

func TestTracingIsOfTheRolesThatServe(t *testing.T) {
	t.Parallel()
	stack := plainStack()
	stack.Spec.Observability.Tracing = &v1alpha1.TracingSpec{OTLPEndpoint: "http://collector:4318", SamplePercentage: ptr.To(int32(7))}
	for _, role := range workloads.Roles() {
		deployment, err := workloads.Deployment(stack, role, plainInputs())
		require.NoError(t, err)
		env := map[string]string{}
		for _, v := range deployment.Spec.Template.Spec.Containers[0].Env {
			if v.Value != nil {
				env[*v.Name] = *v.Value
			}
		}
		require.Equal(t, "http://collector:4318", env["OTEL_EXPORTER_OTLP_ENDPOINT"], role)
		require.Equal(t, "parentbased_traceidratio", env["OTEL_TRACES_SAMPLER"])
		require.Equal(t, "0.07", env["OTEL_TRACES_SAMPLER_ARG"])
		require.Equal(t, "service.namespace=demo,k8s.namespace.name=platform", env["OTEL_RESOURCE_ATTRIBUTES"])
	}
	before, err := workloads.MigrationInputs(plainStack(), plainInputs())
	require.NoError(t, err)
	after, err := workloads.MigrationInputs(stack, plainInputs())
	require.NoError(t, err)
	require.Equal(t, before, after)
}
