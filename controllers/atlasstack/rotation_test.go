package atlasstack_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/token"
)

// authSecret is the generated Secret with the signing key.
func (b *bundle) authSecret(t require.TestingT) *corev1.Secret {
	secret := &corev1.Secret{}
	require.NoError(t, b.client.Get(b.t.Context(), client.ObjectKey{Namespace: b.namespace, Name: stackName + "-auth"}, secret))
	return secret
}

// TestSigningKeyRotation: every pod of the API accepts a key before it signs, and goes on accepting the one before.
func TestSigningKeyRotation(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(func(s *v1alpha1.AtlasStackSpec) {
		s.Auth.SigningKeyRotation = &v1alpha1.SigningKeyRotationSpec{Interval: metav1.Duration{Duration: 24 * time.Hour}}
	})
	first := b.authSecret(t)
	require.NotContains(t, first.Data, "accepted-key.pem")
	aged := first.DeepCopy()
	aged.Data["signing-key-made"] = []byte(time.Now().Add(-25 * time.Hour).UTC().Format(time.RFC3339))
	aged.Data["mine"] = []byte("left alone")
	require.NoError(t, b.client.Update(t.Context(), aged))

	const variable = "JWT_PREVIOUS_KEY_FILE"
	b.eventually(func(c *assert.CollectT, _ *v1alpha1.AtlasStack) {
		env := b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env
		require.True(c, slices.ContainsFunc(env, func(v corev1.EnvVar) bool { return v.Name == variable }))
	})
	next := b.authSecret(t)
	require.Equal(t, first.Data["signing-key.pem"], next.Data["signing-key.pem"], "no pod that has not rolled out yet accepts another")
	require.NotEmpty(t, next.Data["accepted-key.pem"])

	b.eventually(func(c *assert.CollectT, stack *v1alpha1.AtlasStack) {
		b.rollOut()
		secret := b.authSecret(c)
		require.Equal(c, next.Data["accepted-key.pem"], secret.Data["signing-key.pem"])
		require.Equal(c, first.Data["signing-key.pem"], secret.Data["accepted-key.pem"])
		require.NotContains(c, secret.Data, "accepted-key-signs-next")
		require.Equal(c, "left alone", string(secret.Data["mine"]))
		require.NotNil(c, stack.Status.SigningKey)
		require.NotNil(c, stack.Status.SigningKey.NextRotationTime)
		require.Greater(c, time.Until(stack.Status.SigningKey.NextRotationTime.Time), 23*time.Hour)
	})
	b.untilReady()
	require.Equal(t, next.Data["accepted-key.pem"], b.authSecret(t).Data["signing-key.pem"])
}

// TestAKeyOfOnesOwnIsNotRotated: the one that is named besides is accepted.
func TestAKeyOfOnesOwnIsNotRotated(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.createSecret("keys", map[string]string{"new.pem": signingKeyPEM(t), "old.pem": "no key"})
	key := func(name string) *corev1.SecretKeySelector {
		return &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: name}
	}
	b.create(func(s *v1alpha1.AtlasStackSpec) {
		s.Auth.SigningKeySecretRef, s.Auth.AcceptedKeySecretRef = key("new.pem"), key("old.pem")
	})
	b.condition(v1alpha1.ConditionReferencesResolved, metav1.ConditionFalse, v1alpha1.ReasonSecretInvalid, "key old.pem of Secret keys is not an Ed25519 private key")
	secret := &corev1.Secret{}
	require.NoError(t, b.client.Get(t.Context(), client.ObjectKey{Namespace: b.namespace, Name: "keys"}, secret))
	secret.Data["old.pem"] = []byte(signingKeyPEM(t))
	require.NoError(t, b.client.Update(t.Context(), secret))
	b.finishMigration(true)
	require.Nil(t, b.untilReady().Status.SigningKey)
	var files []string
	for _, v := range b.deployment(workloads.RoleAPI).Spec.Template.Spec.Containers[0].Env {
		if v.Name == "JWT_SIGNING_KEY_FILE" || v.Name == "JWT_PREVIOUS_KEY_FILE" {
			files = append(files, v.Value)
		}
	}
	require.Len(t, files, 2)
}

func signingKeyPEM(t *testing.T) string {
	t.Helper()
	key, err := token.GenerateSigningKey()
	require.NoError(t, err)
	return string(key)
}
