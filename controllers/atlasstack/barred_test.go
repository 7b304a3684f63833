package atlasstack_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/atlasstack"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// barred is an operator whose Role in the namespace is gone, and with it the watch on stacks: it may patch stacks, and its cache shows the stack as it was.
type barred struct {
	client.WithWatch
	frozen *v1alpha1.AtlasStack // nil while the Role is there
}

func (b *barred) refuse(call func() error) error {
	if b.frozen == nil {
		return call()
	}
	return apierrors.NewForbidden(schema.GroupResource{Resource: "anything"}, "", nil)
}

// cached is its client, and live its reader.
func (b *barred) cached(namespace string) client.Client {
	return interceptor.NewClient(b.WithWatch, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if stack, ok := o.(*v1alpha1.AtlasStack); ok && b.frozen != nil {
				b.frozen.DeepCopyInto(stack)
				return nil
			}
			return c.Get(ctx, key, o, options...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return listIndexed(ctx, c, namespace, list, options)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return b.refuse(func() error { return c.Create(ctx, o, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			return b.refuse(func() error { return c.Delete(ctx, o, options...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			return b.refuse(func() error { return c.Apply(ctx, o, options...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, o client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			return b.refuse(func() error { return c.SubResource(name).Patch(ctx, o, patch, options...) })
		},
	})
}

func (b *barred) live() client.Reader {
	return interceptor.NewClient(b.WithWatch, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			return b.refuse(func() error { return c.Get(ctx, key, o, options...) })
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return b.refuse(func() error { return c.List(ctx, list, options...) })
		},
	})
}

// barredWorld is one whose operator's Role can be taken away.
func barredWorld(t *testing.T) (*world, *barred) {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	b := &barred{WithWatch: w.direct}
	w.operator = (&atlasstack.Reconciler{
		Client: b.cached(w.namespace), Reader: b.live(), Recorder: w.told, Namespace: operatorNamespace,
		Clock:        w.now,
		ConnectTopic: w.servers.connectTopic, ConnectIndex: w.servers.connectIndex,
	}).Direct()
	require.NoError(t, w.create())
	return w, b
}

// TestStackGoesWhoseDeletionNobodyTellsOf: the namespace is being deleted, the operator's Role and its watch went before the stack.
func TestStackGoesWhoseDeletionNobodyTellsOf(t *testing.T) {
	t.Parallel()
	w, b := barredWorld(t)
	require.NoError(t, w.update(dropAll))
	require.NoError(t, w.settle())
	var err error
	b.frozen, err = w.stack()
	require.NoError(t, err)

	require.NoError(t, w.client.DeleteAllOf(t.Context(), &appsv1.Deployment{}, client.InNamespace(w.namespace)))
	require.NoError(t, w.deleteStack())
	require.True(t, apierrors.IsForbidden(w.turn()), "it doesn't know yet")
	require.NoError(t, w.turn())
	stack, err := w.stack()
	require.NoError(t, err, "pods that nobody sees need time to end")
	deleted := stack.ResourceVersion
	require.NotEmpty(t, w.kafka.has())

	w.clock = time.Minute
	for range 3 { // Kafka answers before it shows that a topic is gone
		require.NoError(t, w.turn())
	}
	stack, err = w.stack()
	require.True(t, apierrors.IsNotFound(err), "%v %v", deleted, stack.ResourceVersion)
	require.Empty(t, w.kafka.has())
	require.False(t, w.elastic.there())
	require.Contains(t, w.told.notes, "Normal CleanedUp What the deletionPolicies say is deleted.")
}

// TestStackGoesWhoseLastJobGoes is the same for the policy Retain: the finalizer was there for an AtlasJob, of whose end the operator's watch still tells.
func TestStackGoesWhoseLastJobGoes(t *testing.T) {
	t.Parallel()
	w, b := barredWorld(t)
	require.NoError(t, w.submit())
	require.NoError(t, w.settle())
	var err error
	b.frozen, err = w.stack()
	require.NoError(t, err)
	require.Equal(t, []string{v1alpha1.CleanupFinalizer}, b.frozen.Finalizers)

	require.NoError(t, w.deleteStack())
	require.NoError(t, w.client.DeleteAllOf(t.Context(), &v1alpha1.AtlasJob{}, client.InNamespace(w.namespace)))
	_, err = w.play() // cancels the job
	require.NoError(t, err)
	require.NoError(t, w.turn(), "it learns that its copy of the stack is old")
	require.NoError(t, w.turn())
	_, err = w.stack()
	require.True(t, apierrors.IsNotFound(err))
}
