package atlasstack_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// TestPodsThatMayHaveStartedWithAWrongSecretAreReplaced once it is put right, though their template needs no change; none are for a Secret that was missing.
func TestPodsThatMayHaveStartedWithAWrongSecretAreReplaced(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil, mend  func(*bundle)
		kind, reason string // of the condition that tells
		restarted    bool
	}{
		"another password": {func(b *bundle) {
			b.editURL("postgres://atlas:wrong@db/atlas")
			b.finishMigration(false)
		}, func(b *bundle) {
			b.rightURL()
			b.finishMigration(true)
		}, v1alpha1.ConditionMigrationsApplied, v1alpha1.ReasonFailed, true},
		"what can't be a URL": {func(b *bundle) { b.editURL("postgres://atlas:a b@db/atlas") }, (*bundle).rightURL, v1alpha1.ConditionReferencesResolved, v1alpha1.ReasonSecretInvalid, true},
		"no Secret":           {(*bundle).dropDatabaseSecret, func(b *bundle) { b.createSecret("postgres", map[string]string{"url": databaseURL}) }, v1alpha1.ConditionReferencesResolved, v1alpha1.ReasonSecretNotFound, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.bringUp()
			before := map[string]int64{}
			for _, d := range b.deployments() {
				before[d.Name] = d.Generation
			}
			c.spoil(b)
			b.condition(c.kind, metav1.ConditionFalse, c.reason, "")
			c.mend(b)
			b.untilReady()
			b.touch()
			b.touch()
			for _, d := range b.deployments() {
				_, restarted := d.Spec.Template.Annotations["platform.atlas.dev/restartedAt"]
				require.Equal(t, c.restarted, restarted, d.Name)
				if c.restarted {
					require.Equal(t, before[d.Name]+1, d.Generation, d.Name)
				} else {
					require.Equal(t, before[d.Name], d.Generation, d.Name)
				}
			}
		})
	}
}

// TestRestartedOperatorReplacesPodsOnlyForAWrongSecret: none for a Secret that was missing, nor for a call that failed.
func TestRestartedOperatorReplacesPodsOnlyForAWrongSecret(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	require.NoError(t, w.create())
	require.NoError(t, w.settle())
	before := w.deployments(t)
	w.start(fault{})
	require.NoError(t, w.turn())
	calls := len(w.life.writes)
	require.Greater(t, calls, 20)
	for call := range calls {
		w.start(fault{call: call + 1})
		require.NoError(t, w.settle())
		require.Equal(t, before, w.deployments(t), "call %d failed", call+1)
	}

	database := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "postgres"}}
	hold := func(url string) {
		if err := w.client.Delete(t.Context(), database.DeepCopy()); !apierrors.IsNotFound(err) {
			require.NoError(t, err)
		}
		if url != "" {
			secret := database.DeepCopy()
			secret.StringData = map[string]string{"url": url}
			require.NoError(t, w.client.Create(t.Context(), secret))
		}
	}
	for _, c := range []struct {
		url      string
		replaced bool
	}{{"", false}, {"postgres://atlas:a b@db/atlas", true}} {
		hold(c.url)
		w.start(fault{})
		require.NoError(t, w.turn())
		hold(databaseURL)
		require.NoError(t, w.settle())
		for _, d := range w.deployments(t) {
			_, replaced := d.Template.Annotations["platform.atlas.dev/restartedAt"]
			require.Equal(t, c.replaced, replaced, c.url)
		}
	}
}

func (b *bundle) rightURL() { b.editURL(databaseURL) }

// editURL edits the database's Secret.
func (b *bundle) editURL(url string) {
	b.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "postgres"}}
	patch, err := json.Marshal(map[string]any{"stringData": map[string]string{"url": url}})
	require.NoError(b.t, err)
	require.NoError(b.t, b.client.Patch(b.t.Context(), secret, client.RawPatch(types.MergePatchType, patch)))
}
