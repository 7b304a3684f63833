package atlasstack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

func TestBadManifestsGetAClearAnswer(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	for name, tc := range map[string]struct {
		change  func(*v1alpha1.AtlasStackSpec)
		message string
	}{
		"no tag":              {func(s *v1alpha1.AtlasStackSpec) { s.Image = "registry:5000/atlas" }, "neither a tag nor a digest"},
		"latest":              {func(s *v1alpha1.AtlasStackSpec) { s.Image = "atlas:latest" }, "write a version tag"},
		"no brokers":          {func(s *v1alpha1.AtlasStackSpec) { s.Kafka.Brokers = nil }, "spec.kafka.brokers"},
		"broker without port": {func(s *v1alpha1.AtlasStackSpec) { s.Kafka.Brokers = []string{"kafka"} }, "spec.kafka.brokers[0]"},
		"retention twice": {func(s *v1alpha1.AtlasStackSpec) {
			s.Kafka.Topic.Retention = &metav1.Duration{Duration: time.Hour}
			s.Kafka.Topic.Config = map[string]string{"retention.ms": "1"}
		}, "retention is set twice"},
		"password in URL": {func(s *v1alpha1.AtlasStackSpec) { s.Elasticsearch.Addresses = []string{"http://u:p@es:9200"} }, "spec.elasticsearch.addresses[0]"},
		"no object store": {func(s *v1alpha1.AtlasStackSpec) { s.ObjectStore = &v1alpha1.ObjectStoreSpec{} }, "set exactly one of url and volumeClaimName"},
		"two object stores": {func(s *v1alpha1.AtlasStackSpec) {
			s.ObjectStore = &v1alpha1.ObjectStoreSpec{URL: "s3://a", VolumeClaimName: "b"}
		}, "set exactly one of url and volumeClaimName"},
		"keys of a volume": {func(s *v1alpha1.AtlasStackSpec) {
			s.ObjectStore = &v1alpha1.ObjectStoreSpec{VolumeClaimName: "b", CredentialsSecretRef: &corev1.LocalObjectReference{Name: "x"}}
		}, "credentialsSecretRef is for url only"},
		"keys in its URL": {func(s *v1alpha1.AtlasStackSpec) { s.ObjectStore = &v1alpha1.ObjectStoreSpec{URL: "s3://k:s@a"} }, "spec.objectStore.url"},
		"secret unnamed":  {func(s *v1alpha1.AtlasStackSpec) { s.Postgres.URLSecretRef.Name = "" }, "name a Secret in the stack's namespace"},
		"resource claims": {func(s *v1alpha1.AtlasStackSpec) { s.API.Resources.Claims = []corev1.ResourceClaim{{Name: "x"}} }, "resources.claims is not supported"},
		"negative pods":   {func(s *v1alpha1.AtlasStackSpec) { s.Worker.Replicas = ptr.To(int32(-1)) }, "spec.worker.replicas"},
	} {
		err := b.client.Create(t.Context(), b.stack(tc.change), client.DryRunAll)
		require.ErrorContains(t, err, tc.message, name)
	}
	named := b.stack()
	named.Name = "a-name-that-is-much-too-long-for-the-names-of-its-children"
	require.ErrorContains(t, b.client.Create(t.Context(), named, client.DryRunAll), "choose a shorter one")
}

func TestForbiddenUpdatesSayTheWayOut(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	stack := b.stack(func(s *v1alpha1.AtlasStackSpec) { s.Paused = true })
	require.NoError(t, b.client.Create(t.Context(), stack))
	require.Equal(t, int32(6), stack.Spec.Kafka.Topic.Partitions, "the API server sets the defaults")
	for name, tc := range map[string]struct {
		change  func(*v1alpha1.AtlasStackSpec)
		message string
	}{
		"fewer partitions": {func(s *v1alpha1.AtlasStackSpec) { s.Kafka.Topic.Partitions = 3 }, "can't be lowered"},
		"other topic":      {func(s *v1alpha1.AtlasStackSpec) { s.Kafka.Topic.Name = "other" }, "create another AtlasStack for another topic"},
		"other alias":      {func(s *v1alpha1.AtlasStackSpec) { s.Elasticsearch.Index.Alias = "other" }, "create another AtlasStack for another alias"},
	} {
		changed := stack.DeepCopy()
		tc.change(&changed.Spec)
		err := b.client.Patch(t.Context(), changed, client.MergeFrom(stack), client.DryRunAll)
		require.ErrorContains(t, err, tc.message, name)
	}
}
