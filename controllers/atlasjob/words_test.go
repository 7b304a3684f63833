package atlasjob

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

func TestMistypedJobsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const aUUID, aPath = "must be a UUID, 01890a5d-", "must be a path such as"
	importOf := func(path string) func(*platformv1alpha1.AtlasJobSpec) {
		return func(s *platformv1alpha1.AtlasJobSpec) {
			s.Type, s.Reindex, s.Import = platformv1alpha1.AtlasJobTypeImport, nil, &platformv1alpha1.ImportJob{CollectionID: testCollection, Path: path}
		}
	}
	enrich := func(items ...string) func(*platformv1alpha1.AtlasJobSpec) {
		return func(s *platformv1alpha1.AtlasJobSpec) {
			s.Type, s.Reindex, s.Enrich = platformv1alpha1.AtlasJobTypeEnrich, nil, &platformv1alpha1.EnrichJob{CollectionID: testCollection, ItemIDs: items}
		}
	}
	with := func(pending, refresh bool, items ...string) func(*platformv1alpha1.AtlasJobSpec) {
		return func(s *platformv1alpha1.AtlasJobSpec) {
			enrich(items...)(s)
			s.Enrich.Pending, s.Enrich.Refresh = &pending, &refresh
		}
	}
	for _, tc := range []struct {
		change func(*platformv1alpha1.AtlasJobSpec)
		says   string // "" when it is taken
	}{
		{func(s *platformv1alpha1.AtlasJobSpec) { s.Reindex.CollectionID = "notes" }, "spec.reindex.collectionID: Invalid value: \"notes\": " + aUUID},
		{func(s *platformv1alpha1.AtlasJobSpec) { s.Reindex.CollectionID = "01890a5dac96774bbcceb302099a8057" }, aUUID},
		{func(s *platformv1alpha1.AtlasJobSpec) {
			s.Reindex.CollectionID = "01890A5D-ac96-774b-bcce-b302099a8057"
		}, ""},
		{enrich(testCollection, "first"), "spec.enrich.itemIDs[1]: Invalid value: \"first\": " + aUUID},
		{enrich(testCollection), ""},
		{with(true, false, testCollection), "itemIDs has no effect with pending: remove one of the two"},
		{with(true, true), "refresh has no effect with pending: remove one of the two"},
		{with(true, false), ""},
		{with(false, true, testCollection), ""},
		{importOf("../notes.ndjson"), "spec.import.path: Invalid value: \"../notes.ndjson\": " + aPath},
		{importOf("/imports/notes.ndjson"), aPath},
		{importOf("imports/my notes.ndjson"), aPath},
		{importOf("imports/a/notes_1.2-3.ndjson"), ""},
		{func(s *platformv1alpha1.AtlasJobSpec) { s.StackRef.Name = "Atlas" }, "stackRef.name is not the name of an AtlasStack"},
		{func(s *platformv1alpha1.AtlasJobSpec) { s.StackRef.Name = "other/atlas" }, "stackRef.name is not the name of an AtlasStack"},
	} {
		job := newJob(b.namespace)
		tc.change(&job.Spec)
		err := b.client.Create(t.Context(), job, client.DryRunAll)
		if tc.says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tc.says)
		require.NotContains(t, err.Error(), "should match")
	}
}

// TestAnEmptyListIsRefused: it would be as if there was none, which means all.
func TestAnEmptyListIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	job.Spec.Type, job.Spec.Reindex, job.Spec.Enrich = platformv1alpha1.AtlasJobTypeEnrich, nil, &platformv1alpha1.EnrichJob{CollectionID: testCollection}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(job)
	require.NoError(t, err)
	bare := &unstructured.Unstructured{Object: content}
	bare.SetGroupVersionKind(platformv1alpha1.GroupVersion.WithKind("AtlasJob"))
	require.NoError(t, unstructured.SetNestedSlice(content, []any{}, "spec", "enrich", "itemIDs"))
	require.ErrorContains(t, b.client.Create(t.Context(), bare, client.DryRunAll), "spec.enrich.itemIDs in body should have at least 1 items")
}
