package atlasjob

import (
	"testing"

	"github.com/stretchr/testify/require"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestAKindWithANameThatCELReserves has an import: rules spell that name in another way.
func TestAKindWithANameThatCELReserves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := newJob(b.namespace)
	job.Spec.Type, job.Spec.Reindex = platformv1alpha1.AtlasJobTypeImport, nil
	require.ErrorContains(t, b.client.Create(t.Context(), job), "import is missing: set import.collectionID")
	job.Spec.Type, job.Spec.Import = platformv1alpha1.AtlasJobTypeAuditVerify, &platformv1alpha1.ImportJob{CollectionID: "01890a5d-ac96-774b-bcce-b302099a8057", Path: "a"}
	job.Spec.AuditVerify = &platformv1alpha1.AuditVerifyJob{}
	require.ErrorContains(t, b.client.Create(t.Context(), job), "import is for type import only")
	job.Spec.Type, job.Spec.AuditVerify = platformv1alpha1.AtlasJobTypeImport, nil
	b.create(job)
	same := b.read(job)
	same.Labels = map[string]string{"a": "b"}
	require.NoError(t, b.client.Update(t.Context(), same))
	same.Spec.Import.Path = "b"
	require.ErrorContains(t, b.client.Update(t.Context(), same), "spec can't be changed")
}
