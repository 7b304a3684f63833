package workloads

import (
	"strconv"

	"k8s.io/utils/ptr"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// defaultSamplePercentage is the API's default.
const defaultSamplePercentage = 10

// tracingEnvironment is OpenTelemetry's, which the roles read.
func tracingEnvironment(stack *v1alpha1.AtlasStack, from *v1alpha1.TracingSpec) []*envVar {
	share := float64(ptr.Deref(from.SamplePercentage, defaultSamplePercentage)) / 100
	return []*envVar{
		plain("OTEL_EXPORTER_OTLP_ENDPOINT", from.OTLPEndpoint),
		plain("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
		plain("OTEL_TRACES_SAMPLER_ARG", strconv.FormatFloat(share, 'f', -1, 64)),
		plain("OTEL_RESOURCE_ATTRIBUTES", "service.namespace="+stack.Name+",k8s.namespace.name="+stack.Namespace),
	}
}
