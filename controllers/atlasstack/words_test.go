package atlasstack_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	units     = "its units are h, m, s and ms, days are not a unit, and it has no sign"
	port      = "the port is not between 1 and 65535"
	aHostPort = "want host:port"
	aTokenURL = "tokenURL is not an http or https URL"
	aCloudID  = "want the Cloud ID as the console of Elastic Cloud shows it"
)

// typed is a value that somebody mistypes, or does not, in a field.
type typed struct {
	path  string
	value any
	says  string // "" when it is taken
}

// secretKey names a key of a Secret.
func secretKey(name, key string) map[string]any { return map[string]any{"name": name, "key": key} }

func digest(algorithm string, digits int) string {
	return "atlas@" + algorithm + ":" + strings.Repeat("ab", digits/2)
}

func durationsTyped() (out []typed) {
	const usual = "such as 90s, 15m or 168h: "
	for field, form := range map[string]string{
		"auth.accessTokenLifetime": "at least 1s, " + usual, "auth.refreshTokenLifetime": "at least 1s, " + usual,
		"auth.signingKeyRotation.interval": "at least 1h, such as 24h or 168h: ",
		"retention.trash":                  "more than 0s, " + usual, "retention.jobs": "more than 0s, " + usual, "retention.files": "more than 0s, " + usual,
		"kafka.topic.retention": "at least 1ms, " + usual, "kafka.deadLetterTopic.retention": "at least 1ms, " + usual,
		"elasticsearch.index.refreshInterval": "at least 1ms, " + usual, "observability.monitor.interval": "at least 1ms, " + usual,
	} {
		for _, value := range []string{"7d", "15", "1 h", "", "-5h", "1ns", "100us", "1h 30m", "9999999999999999h"} {
			out = append(out, typed{field, value, "spec." + field + ": Invalid value: \"" + value + "\": want a duration of " + form + units})
		}
		out = append(out, typed{field, "0s", "spec." + field})
	}
	return append(out, typed{"kafka.topic.retention", "604800000ms", ""}, typed{"kafka.topic.retention", "87600h0m0.5s", ""}, typed{"auth.signingKeyRotation.interval", "1h", ""},
		typed{"auth.signingKeyRotation.interval", "59m", "shorter than 1h"}, typed{"kafka.topic.retention", "0.4ms", "topic.retention is zero"})
}

func addressesTyped() []typed {
	return []typed{
		{"kafka.brokers", []any{"kafka:0"}, port},
		{"kafka.brokers", []any{"kafka:99999"}, port},
		{"kafka.brokers", []any{"kafka"}, aHostPort},
		{"kafka.brokers", []any{"..:9092"}, aHostPort},
		{"kafka.brokers", []any{"-kafka:9092"}, aHostPort},
		{"kafka.brokers", []any{"kafka.example.com.:9092", "k:9092", "_kafka._tcp:9092"}, ""},
		{"kafka.brokers", []any{"PLAINTEXT://kafka:9092"}, aHostPort},
		{"kafka.brokers", []any{"kafka:9092,other:9092"}, aHostPort},
		{"kafka.brokers", []any{"kafka:9092", "[::1]:65535", "10.0.0.1:1", "Broker-1.example.com:09093"}, ""},
		{"elasticsearch.addresses", []any{"http://es:0"}, port},
		{"elasticsearch.addresses", []any{"http://es:99999"}, port},
		{"elasticsearch.addresses", []any{"http://es:999999999999999999999999"}, port},
		{"elasticsearch.addresses", []any{"http://:9200"}, "want http://host:port"},
		{"elasticsearch.addresses", []any{"http://es:port"}, "want http://host:port"},
		{"elasticsearch.addresses", []any{"es:9200"}, "want http://host:port"},
		{"elasticsearch.addresses", []any{"http://es:9200?pretty"}, "want http://host:port"},
		{"elasticsearch.addresses", []any{"http://es:9200/path", "https://es.example.com", "http://[fd00::1]:9200"}, ""},
		{"elasticsearch.cloudID", "my deployment", aCloudID},
		{"elasticsearch.cloudID", "https://x.es.io:9243", aCloudID},
		{"elasticsearch.cloudID", "name:", aCloudID},
		{"observability.tracing.otlpEndpoint", "collector:4317", "tracing.otlpEndpoint is not a URL"},
		{"observability.tracing.otlpEndpoint", "http://collector:431800", port},
		{"observability.tracing.otlpEndpoint", "http://:4318", "tracing.otlpEndpoint is not a URL"},
		{"observability.tracing.otlpEndpoint", "http://collector.monitoring:4318/v1/traces", ""},
		{"networking.corsOrigins", []any{"http://localhost:99999"}, port},
		{"networking.httpRoute", map[string]any{"parentRefs": []any{map[string]any{"name": "public"}}, "hostnames": []any{"https://atlas.example.com"}}, "without a scheme or a port"},
		{"networking.httpRoute", map[string]any{"parentRefs": []any{map[string]any{"name": "Public Gateway"}}}, "not the name of a Gateway"},
		{"networking.httpRoute", map[string]any{"parentRefs": []any{map[string]any{"name": "public", "namespace": "a.b"}}}, "not the name of a namespace"},
		{"networking.httpRoute", map[string]any{"parentRefs": []any{map[string]any{"name": "public", "sectionName": "HTTPS"}}}, "not the name of a Gateway's listener"},
		{
			"networking.httpRoute", map[string]any{
				"parentRefs": []any{map[string]any{"name": "public", "namespace": "gateways", "sectionName": "https"}}, "hostnames": []any{"*.example.com", "atlas.example.com"},
			}, "",
		},
		{"kafka.sasl", oauth("login.example.com/token"), aTokenURL},
		{"kafka.sasl", oauth("https://me:pw@login.example.com/token"), aTokenURL},
		{"kafka.sasl", oauth("https://login.example.com:0/token"), port},
		{"kafka.sasl", oauth("https://login.example.com/token", "one two"), "make each scope an item of its own"},
		{"kafka.sasl", oauth("https://login.example.com/token", "one", "two"), ""},
		{"objectStore", map[string]any{"url": "https://s3.example.com/bucket"}, "objectStore.url is not s3://bucket/prefix"},
		{"objectStore", map[string]any{"url": "s3://minio:9000/bucket"}, "into the parameter endpoint"},
		{"objectStore", map[string]any{"url": "s3://bucket?endpoint=minio:9000"}, "the endpoint in objectStore.url is not http://host:port"},
		{"objectStore", map[string]any{"url": "s3://bucket?endpoint=https%3a%2f%2fminio:9000&path_style=true"}, ""},
		{"objectStore", map[string]any{"url": "s3://bucket?path_style=yes"}, "the parameters of objectStore.url are"},
		{"objectStore", map[string]any{"url": "s3://bucket/prefix?pathStyle=true"}, "the parameters of objectStore.url are"},
		{"objectStore", map[string]any{"url": "s3://bucket/a/b?endpoint=http://minio.example.com:9000&region=eu-central-1&path_style=true"}, ""},
		{"objectStore", map[string]any{"url": "s3://my-bucket/"}, ""},
		{"objectStore", map[string]any{"volumeClaimName": "My Claim"}, "not the name of a PersistentVolumeClaim"},
	}
}

func oauth(url string, scopes ...any) map[string]any {
	return map[string]any{
		"mechanism": "OAUTHBEARER", "credentialsSecretRef": map[string]any{"name": "kafka"}, "oauth": map[string]any{"tokenURL": url, "scopes": scopes},
	}
}

func namesTyped() []typed {
	const notAnImage = "image is not the name of an image"
	out := []typed{
		{"image", "UPPER/x:1", notAnImage},
		{"image", "atlas :1.0", notAnImage},
		{"image", "atlas@sha256:abc", notAnImage},
		{"image", "https://registry.example.com/atlas:1", notAnImage},
		{"image", "registry.example.com//atlas:1", notAnImage},
		{"image", "registry.example.com/atlas:1.0+dirty", notAnImage},
		{"image", "atlas:1.0\n", notAnImage},
		{"image", "atlas", "image has neither a tag nor a digest"},
		{"image", "atlas:1.0", ""},
		{"image", "Registry.Example.com:5000/team/sub_team/atlas__x:V1.0_a-b", ""},
		{"image", "localhost/atlas:dev", ""},
		{"image", "[fd00::1]:5000/atlas:dev", ""},
		{"image", "registry:5000/" + digest("sha256", 64), ""},
		{"image", digest("sha512", 128), ""},
		{"version", "1.4.2", ""},
		{"version", "2026-11-22_hotfix.1", ""},
		{"version", "", "version is not the name of a version, 1.4.2 for example"},
		{"version", "1.4.2 ", "want letters, digits, '.', '_' and '-', with a letter or a digit first and last"},
		{"version", "-1", "version is not the name of a version"},
		{"version", strings.Repeat("1", 64), "63"},
		{"postgres.cloudSQL", map[string]any{"instanceConnectionName": "p:r:i", "image": "proxy @2"}, "cloudSQL.image is not the name of an image"},
		{"postgres.cloudSQL", map[string]any{"instanceConnectionName": "my-instance", "image": "proxy:2"}, "want project:region:instance"},
		{"postgres.cloudSQL", map[string]any{"instanceConnectionName": "example.com:project:region:instance", "image": "proxy:2"}, ""},
		{"imagePullSecrets", []any{map[string]any{}}, "the name is empty: name a Secret"},
		{"imagePullSecrets", []any{map[string]any{"name": "registry"}}, ""},
		{"kafka.tls", map[string]any{"clientCertificateSecretRef": map[string]any{"name": "Bad Name"}}, "clientCertificateSecretRef.name is not the name of a Secret"},
		{"kafka.sasl", map[string]any{"mechanism": "PLAIN", "credentialsSecretRef": map[string]any{"name": "Bad Name"}}, "credentialsSecretRef.name is not the name of a Secret"},
		{"elasticsearch.credentialsSecretRef", map[string]any{"name": "Bad Name"}, "credentialsSecretRef.name is not the name of a Secret"},
		{"objectStore", map[string]any{"url": "s3://a", "credentialsSecretRef": map[string]any{"name": "Bad Name"}}, "credentialsSecretRef.name is not the name of a Secret"},
		{"kafka.topic.name", ".", "topic.name is one that Kafka refuses"},
		{"kafka.topic.name", "..", "topic.name is one that Kafka refuses"},
		{"kafka.topic.name", "...", ""},
		{"kafka.topic.config", map[string]any{"min.insync.replicas": "2"}, "min.insync.replicas of topic.config is larger than topic.replicationFactor"},
		{"kafka.topic.config", map[string]any{"min.insync.replicas": "1", "retention.bytes": "-1"}, ""},
		{"kafka.deadLetterTopic.config", map[string]any{"min.insync.replicas": "3"}, "min.insync.replicas of deadLetterTopic.config is larger"},
		{"enrichment.contact", "someone (me)", "want a URL or an e-mail address without spaces"},
		{"enrichment.contact", "mailto:o'hara@example.com", ""},
		{"auth.admin.email", "admin", "admin.email is not an e-mail address, admin@example.com for example"},
		{"auth.admin.email", "a..b@example.com", "admin.email is not an e-mail address"},
		{"auth.admin.email", "Admin<admin@example.com>", "admin.email is not an e-mail address"},
		{"auth.admin.email", "o'hara+atlas@sub.example.com", ""},
		{"networking.ingress", map[string]any{"host": "https://atlas.example.com"}, "ingress.host is not a name in lower case"},
		{"networking.ingress", map[string]any{"host": "10.0.0.1"}, "ingress.host is an address"},
		{"networking.httpRoute", map[string]any{"parentRefs": []any{map[string]any{"name": "public"}}, "hostnames": []any{"10.0.0.1"}}, "an HTTPRoute can't have an address"},
		{"networking.ingress", map[string]any{"host": "a.example.com", "className": ""}, "not the name of an IngressClass"},
		{"networking.ingress", map[string]any{"host": "a.example.com", "tlsSecretName": "Atlas TLS"}, "not the name of a Secret"},
		{"networking.ingress", map[string]any{"host": "a.example.com", "className": "nginx", "tlsSecretName": ""}, ""},
		{"networking.service", map[string]any{"type": "LoadBalancer", "loadBalancerClass": "a class"}, "want the name of a class of load balancers"},
		{"networking.service", map[string]any{"type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb"}, ""},
		{"api.priorityClassName", "Very High", "not the name of a PriorityClass"},
		{"api.topologySpreadConstraints", spread(0, "zone", "DoNotSchedule"), "maxSkew is less than 1"},
		{"api.topologySpreadConstraints", spread(1, "", "DoNotSchedule"), "topologyKey is empty"},
		{"api.topologySpreadConstraints", spread(1, "zone", "doNotSchedule"), "neither DoNotSchedule nor ScheduleAnyway"},
		{"api.topologySpreadConstraints", spread(1, "zone", "ScheduleAnyway"), ""},
		{"auth.acceptedKeySecretRef", secretKey("x", ""), "acceptedKeySecretRef.key is empty"},
	}
	for _, field := range []string{
		"postgres.urlSecretRef", "postgres.caFrom.secretKeyRef", "postgres.caFrom.configMapKeyRef", "elasticsearch.caFrom.secretKeyRef", "kafka.tls.caFrom.configMapKeyRef",
		"auth.signingKeySecretRef", "auth.admin.passwordSecretRef",
	} {
		last := field[strings.LastIndex(field, ".")+1:]
		out = append(out, typed{field, secretKey("x", ""), last + ".key is empty: name the key of the "}, typed{field, secretKey("", "x"), last + ".name is empty"}, typed{field, secretKey("x", "x"), ""},
			typed{field, secretKey("atlas.db-1", "x"), ""})
		kind := "Secret"
		if strings.HasPrefix(last, "configMap") {
			kind = "ConfigMap"
		}
		for _, name := range []string{"Bad Name", "bad_name", "-bad", "bad.", "Bad"} {
			out = append(out, typed{field, secretKey(name, "x"), last + ".name is not the name of a " + kind + ": want lower-case letters, digits, '-' and '.', with a letter or a digit first and last"})
		}
	}
	return out
}

func resourcesTyped() (out []typed) {
	amounts := func(requests, limits map[string]any) map[string]any {
		return map[string]any{"requests": requests, "limits": limits}
	}
	cpu := func(v any) map[string]any { return map[string]any{"cpu": v} }
	memory := func(v any) map[string]any { return map[string]any{"memory": v} }
	for _, component := range []string{"api", "indexer", "audit", "worker"} {
		out = append(out,
			typed{component + ".resources", amounts(cpu("-100m"), nil), "a quantity of resources.requests is negative: correct it, 500m or 1Gi for example"},
			typed{component + ".resources", amounts(nil, memory(int64(-1))), "a quantity of resources.limits is negative"},
			typed{component + ".resources", amounts(cpu(int64(2)), cpu("1500m")), "a quantity of resources.requests is larger than that of resources.limits, and no pod could be made: lower it, or raise the limit"},
			typed{component + ".resources", amounts(memory("1Gi"), memory("1G")), "a quantity of resources.requests is larger"},
			typed{component + ".resources", amounts(memory("1G"), memory("1Gi")), ""},
			typed{component + ".resources", amounts(map[string]any{"cpu": "1", "memory": "1Gi"}, map[string]any{"cpu": int64(1), "example.com/gpu": int64(1)}), ""},
			typed{component + ".resources", amounts(cpu(int64(0)), nil), ""},
		)
	}
	return out
}

func spread(skew int64, key, when string) []any {
	return []any{map[string]any{"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when}}
}

func TestMistypedValuesAreRefusedInWords(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	for _, tc := range slices.Concat(durationsTyped(), addressesTyped(), namesTyped(), resourcesTyped()) {
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(b.stack())
		require.NoError(t, err)
		stack := &unstructured.Unstructured{Object: object}
		stack.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AtlasStack"))
		if tc.path == "elasticsearch.cloudID" {
			unstructured.RemoveNestedField(stack.Object, "spec", "elasticsearch", "addresses")
		}
		require.NoError(t, unstructured.SetNestedField(stack.Object, tc.value, append([]string{"spec"}, strings.Split(tc.path, ".")...)...))
		err = b.client.Create(t.Context(), stack, client.DryRunAll)
		name := fmt.Sprintf("%s: %v", tc.path, tc.value)
		if tc.says == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, tc.says, name)
		require.NotContains(t, err.Error(), "should match", name)
		require.NotContains(t, err.Error(), "type conversion error", name)
	}
}

// TestPatternsAreOfKubernetesOnly: whoever breaks a pattern is told the regular expression and nothing else. A rule says it in words.
func TestPatternsAreOfKubernetesOnly(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "config", "crd", "platform.atlas.dev_*.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		crd := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, yaml.UnmarshalStrict(content, crd))
		schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		patterns(t, crd.Spec.Names.Kind+".spec", &schema)
	}
}

func patterns(t *testing.T, path string, schema *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if !schema.XIntOrString { // a quantity
		require.Empty(t, schema.Pattern, path)
	}
	for name, property := range schema.Properties {
		patterns(t, path+"."+name, &property)
	}
	if schema.Items != nil {
		patterns(t, path+"[]", schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		patterns(t, path+".*", schema.AdditionalProperties.Schema)
	}
}
