package atlasstack

import (
	"bytes"
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/token"
)

// reasonRotated is the reason of the Event that tells of a new signing key.
const reasonRotated = "SigningKeyRotated"

// Further keys of a generated Secret: when its signing key began to sign, and whether the accepted key is to sign next.
const (
	madeKey = "signing-key-made"
	nextKey = "accepted-key-signs-next"
)

// drained is when the last pod of a former rollout has ended for sure: longer than a pod may take to.
const drained = time.Minute

// rotate replaces a generated signing key that has reached its age. First every pod of the API learns to accept the new key, and only when the last one that
// does not has ended does the new one sign. The old one is accepted until the next rotation, so that what it signed stays valid for as long as it says.
func (r *Reconciler) rotate(ctx context.Context, p *pass) {
	if err := r.rotateSigningKey(ctx, p); err != nil {
		p.failed[v1alpha1.ConditionReferencesResolved] = err
		apply.SetStepResult(&p.stack.Status.Conditions, p.stack.Generation, v1alpha1.ConditionReferencesResolved, "", err)
	}
}

func (r *Reconciler) rotateSigningKey(ctx context.Context, p *pass) error {
	spec, status := &p.stack.Spec.Auth, &p.stack.Status
	status.SigningKey = nil
	if spec.SigningKeySecretRef != nil || p.auth.data == nil || !p.done(v1alpha1.ConditionReferencesResolved) {
		return nil
	}
	made, known := madeAt(p.auth)
	switch {
	case !known && spec.SigningKeyRotation == nil:
		return nil
	case !known: // a Secret that an earlier release made, or that somebody edited
		return r.changeAuth(ctx, p, map[string][]byte{madeKey: []byte(time.Now().UTC().Format(time.RFC3339))})
	}
	status.SigningKey = &v1alpha1.SigningKeyStatus{RotationTime: metav1.NewTime(made)}
	if bytes.Equal(p.auth.data[nextKey], []byte("true")) {
		return r.finishRotation(ctx, p)
	}
	if spec.SigningKeyRotation == nil {
		return nil
	}
	due := made.Add(spec.SigningKeyRotation.Interval.Duration)
	status.SigningKey.NextRotationTime = &metav1.Time{Time: due}
	if wait := time.Until(due); wait > 0 {
		p.wake(wait)
		return nil
	}
	key, err := token.GenerateSigningKey()
	if err != nil {
		return fmt.Errorf("make the next signing key: %w", err)
	}
	return r.changeAuth(ctx, p, map[string][]byte{workloads.AcceptedKeyKey: key, nextKey: []byte("true")})
}

// madeAt is when the key that signs was made.
func madeAt(auth content) (time.Time, bool) {
	made, err := time.Parse(time.RFC3339, string(auth.data[madeKey]))
	return made, err == nil
}

// done is true when nothing is left to do for a condition in this pass.
func (p *pass) done(condition string) bool { return p.failed[condition] == nil }

// finishRotation has the next key sign once every pod of the API accepts it.
func (r *Reconciler) finishRotation(ctx context.Context, p *pass) error {
	p.stack.Status.SigningKey.NextRotationTime = &metav1.Time{Time: time.Now()}
	if !p.current || !p.done(v1alpha1.ConditionWorkloadsReady) {
		return nil // the pass that sees the rollout's end goes on
	}
	deployment := &appsv1.Deployment{}
	name := client.ObjectKey{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, workloads.RoleAPI)}
	if err := r.Client.Get(ctx, name, deployment); err != nil {
		return fmt.Errorf("read Deployment %s: %w", name.Name, err)
	}
	for _, c := range deployment.Status.Conditions {
		if wait := time.Until(c.LastUpdateTime.Add(drained)); c.Type == appsv1.DeploymentProgressing && wait > 0 {
			p.wake(wait)
			return nil
		}
	}
	err := r.changeAuth(ctx, p, map[string][]byte{
		workloads.SigningKeyKey:  p.auth.data[workloads.AcceptedKeyKey],
		workloads.AcceptedKeyKey: p.auth.data[workloads.SigningKeyKey],
		madeKey:                  []byte(time.Now().UTC().Format(time.RFC3339)),
		nextKey:                  nil,
	})
	if err == nil {
		r.Recorder.Eventf(p.stack, nil, corev1.EventTypeNormal, reasonRotated, "Rotate", "the API signs tokens with a new key; the old one is accepted until the next rotation")
	}
	return err
}

// changeAuth changes keys of the generated Secret, unless somebody else has changed it since it was read. The watch on it brings about the next pass.
func (r *Reconciler) changeAuth(ctx context.Context, p *pass, changes map[string][]byte) error {
	secret := &corev1.Secret{}
	secret.Namespace, secret.Name, secret.ResourceVersion = p.stack.Namespace, workloads.AuthSecretName(p.stack), p.auth.version
	secret.Data = p.auth.data
	base := secret.DeepCopy()
	secret.Data = base.DeepCopy().Data
	for key, value := range changes {
		if value == nil {
			delete(secret.Data, key)
		} else {
			secret.Data[key] = value
		}
	}
	p.wake(time.Second) // if the watch does not
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	err := r.Client.Patch(ctx, secret, patch, client.FieldOwner(apply.FieldManager))
	if apierrors.IsConflict(err) {
		return nil // the next pass looks at what is there
	}
	if err != nil {
		return fmt.Errorf("change the keys of Secret %s: %w", secret.Name, err)
	}
	return nil
}
