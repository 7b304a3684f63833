package atlasstack_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// TestPodsThatMayHaveStartedWithAWrongSecretAreReplaced once it is put right, though their template needs no change: those of the roles that use it. None are for a
// Secret that was missing.
func TestPodsThatMayHaveStartedWithAWrongSecretAreReplaced(t *testing.T) {
	t.Parallel()
	key := signingKeyPEM(t)
	for name, c := range map[string]struct {
		spoil, mend  func(*bundle)
		kind, reason string // of the condition that tells
		restarted    []workloads.Role
	}{
		"another password": {
			spoil: func(b *bundle) {
				b.editURL("postgres://atlas:wrong@db/atlas")
				b.finishMigration(false)
			},
			mend: func(b *bundle) {
				b.rightURL()
				b.finishMigration(true)
			},
			kind: v1alpha1.ConditionMigrationsApplied, reason: v1alpha1.ReasonFailed, restarted: workloads.Roles(),
		},
		"what can't be a URL": {
			spoil: func(b *bundle) { b.editURL("postgres://atlas:a b@db/atlas") }, mend: (*bundle).rightURL,
			kind: v1alpha1.ConditionReferencesResolved, reason: v1alpha1.ReasonSecretInvalid, restarted: workloads.Roles(),
		},
		"no Secret": {
			spoil: (*bundle).dropDatabaseSecret, mend: func(b *bundle) { b.createSecret("postgres", map[string]string{"url": databaseURL}) },
			kind: v1alpha1.ConditionReferencesResolved, reason: v1alpha1.ReasonSecretNotFound,
		},
		"another password of the admin": { // only migrations use it
			spoil: func(b *bundle) {
				b.edit(stackName+"-admin", workloads.AdminPasswordKey, "another-one")
				b.migration()
			},
			mend: func(b *bundle) { b.finishMigration(true) },
			kind: v1alpha1.ConditionMigrationsApplied, reason: v1alpha1.ReasonProgressing,
		},
		"a signing key that is none, while another Secret is missing": {
			spoil: func(b *bundle) {
				b.edit("keys", "signing.pem", "none")
				b.dropDatabaseSecret()
			},
			mend: func(b *bundle) {
				b.edit("keys", "signing.pem", key)
				b.createSecret("postgres", map[string]string{"url": databaseURL})
			},
			kind: v1alpha1.ConditionReferencesResolved, reason: v1alpha1.ReasonSecretNotFound, restarted: []workloads.Role{workloads.RoleAPI},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBundle(t)
			b.createSecret("keys", map[string]string{"signing.pem": key})
			b.bringUp(func(s *v1alpha1.AtlasStackSpec) {
				s.Auth.SigningKeySecretRef = &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: "signing.pem"}
			})
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
			for _, role := range workloads.Roles() {
				d, want := b.deployment(role), before[stackName+"-"+string(role)]
				_, restarted := d.Spec.Template.Annotations["platform.atlas.dev/restartedAt"]
				require.Equal(t, slices.Contains(c.restarted, role), restarted, d.Name)
				if restarted {
					want++
				}
				require.Equal(t, want, d.Generation, d.Name)
				require.NotContains(t, d.Labels, "platform.atlas.dev/stale", d.Name)
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
		w.start(fault{})
		require.NoError(t, w.settle())
		for _, d := range w.deployments(t) {
			_, replaced := d.Template.Annotations["platform.atlas.dev/restartedAt"]
			require.Equal(t, c.replaced, replaced, c.url)
		}
	}
}

// TestAStackIsNotReadyBeforeStalePodsAreReplaced, nor are they twice, though the cache may not show yet what the operator has written.
func TestAStackIsNotReadyBeforeStalePodsAreReplaced(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.EnvtestAssets)
	w, err := newWorld(t.Context(), theSuite)
	require.NoError(t, err)
	require.NoError(t, w.create())
	require.NoError(t, w.settle())
	url := func(text string) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "postgres"}}
		require.NoError(t, w.client.Patch(t.Context(), secret, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"stringData":{"url":%q}}`, text))))
	}
	url("postgres://atlas:a b@db/atlas")
	for range 3 {
		require.NoError(t, w.turn())
	}
	require.NoError(t, w.turn())
	url(databaseURL)
	w.life.behind = map[string]*appsv1.Deployment{}
	for _, role := range workloads.Roles() {
		w.life.behind[stackName+"-"+string(role)] = w.deployment(t, role)
	}
	for range 3 {
		require.NoError(t, w.turn())
		stack, err := w.stack()
		require.NoError(t, err)
		require.False(t, meta.IsStatusConditionTrue(stack.Status.Conditions, v1alpha1.ConditionReady))
	}
	for name, before := range w.life.behind {
		now := &appsv1.Deployment{}
		require.NoError(t, w.client.Get(t.Context(), client.ObjectKey{Namespace: w.namespace, Name: name}, now))
		require.Equal(t, before.Generation+1, now.Generation, name)
	}
	w.life.behind = nil
	require.NoError(t, w.settle())
}

func (b *bundle) rightURL() { b.editURL(databaseURL) }

// editURL edits the database's Secret.
func (b *bundle) editURL(url string) { b.edit("postgres", "url", url) }

func (b *bundle) edit(name, key, value string) {
	b.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name}}
	patch, err := json.Marshal(map[string]any{"stringData": map[string]string{key: value}})
	require.NoError(b.t, err)
	require.NoError(b.t, b.client.Patch(b.t.Context(), secret, client.RawPatch(types.MergePatchType, patch)))
}
