package atlasjob

import (
	"context"
	"crypto/ed25519"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/token"
)

// signingKey reads the key that the stack's API verifies tokens with. On an error it returns the condition's reason too.
func (r *Reconciler) signingKey(ctx context.Context, stack *platformv1alpha1.AtlasStack) (ed25519.PrivateKey, string, error) {
	name, field := stack.Name+"-auth", signingKeyField
	if ref := stack.Spec.Auth.SigningKeySecretRef; ref != nil {
		name, field = ref.Name, ref.Key
	}
	secret := &corev1.Secret{}
	err := r.Reader.Get(ctx, types.NamespacedName{Namespace: stack.Namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, platformv1alpha1.ReasonSecretNotFound, fmt.Errorf("the Secret %q with the stack's signing key does not exist", name)
	}
	if err != nil {
		return nil, platformv1alpha1.ReasonError, fmt.Errorf("read the Secret %q with the stack's signing key: %w", name, err)
	}
	content, ok := secret.Data[field]
	if !ok {
		return nil, platformv1alpha1.ReasonSecretKeyMissing, fmt.Errorf("the Secret %q has no key %q with the stack's signing key", name, field)
	}
	key, err := token.ParseSigningKey(content)
	if err != nil {
		return nil, platformv1alpha1.ReasonSecretInvalid, fmt.Errorf("the Secret %q, key %q: %w", name, field, err)
	}
	return key, "", nil
}

// jobsClient makes a client with a fresh token.
func (r *Reconciler) jobsClient(stack *platformv1alpha1.AtlasStack, key ed25519.PrivateKey) (jobsClient, error) {
	// The token is real time whatever Clock says: the API checks it against its own clock.
	bearer, err := token.NewIssuer(key, issuer, audience, tokenTTL, nil).MintService(token.OperatorSubject, tokenTTL)
	if err != nil {
		return jobsClient{}, fmt.Errorf("mint a service token: %w", err)
	}
	return jobsClient{http: r.HTTP, baseURL: r.BaseURL(stack), token: bearer}, nil
}
