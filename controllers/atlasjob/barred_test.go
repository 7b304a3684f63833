package atlasjob

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

func errBarred() error {
	return apierrors.NewForbidden(schema.GroupResource{Resource: "anything"}, "", nil)
}

// barredClient patches AtlasJobs and no more; what it reads comes from a cache.
type barredClient struct{ staleClient }

func (barredClient) Status() client.SubResourceWriter { return barredWriter{} }

type barredWriter struct{ client.SubResourceWriter }

func (barredWriter) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return errBarred()
}

type barredReader struct{ client.Reader }

func (barredReader) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errBarred()
}

// TestDeletionWithoutARole: the namespace is being deleted, and the operator's Role and its watch went before the AtlasJob.
func TestDeletionWithoutARole(t *testing.T) {
	t.Parallel()
	for name, stale := range map[string]bool{"that the cache tells of": false, "that nobody tells of": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			job := b.submittedJob()
			cached := b.read(job)
			b.deleted(job)
			if !stale {
				cached = b.read(job)
			}
			b.r.Client, b.r.Reader = barredClient{staleClient{b.asOperator, cached}}, barredReader{}
			b.recorded()
			after, _, err := b.reconcile(job)
			require.True(t, apierrors.IsForbidden(err), "tried again with backoff: %v", err)
			require.NotNil(t, after)
			require.Equal(t, b.read(job).ResourceVersion, after.ResourceVersion)

			b.now = b.now.Add(barredPatience)
			after, _, err = b.reconcile(job)
			require.NoError(t, err)
			require.Nil(t, after)
			require.Regexp(t, "(?m)^Warning Abandoned .*"+job.Status.JobID+" may go on: the operator has no right in its namespace", strings.Join(b.recorded(), "\n"))
		})
	}
}

// TestRefusedReadOfAJobThatStays is told, and changes nothing.
func TestRefusedReadOfAJobThatStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	job := b.submittedJob()
	b.r.Reader = barredReader{}
	after, _, err := b.reconcile(job)
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.Equal(t, []string{finalizer}, after.Finalizers)
	require.Equal(t, platformv1alpha1.ReasonError, conditionReason(after))
}
