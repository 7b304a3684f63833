// The optional kinds' own definitions, for tests: only the files under config/crd and example of these modules are used. So there is no package here, and nothing to tidy.
module github.com/atlas-platform/atlas/hack/tools/crds

go 1.26.0

require (
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.6.3
)
