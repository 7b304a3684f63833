package apply

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	stackKind    = "AtlasStack"
	removalRetry = 2 * time.Second
	// takenRetry is how often a name that is somebody else's is looked at: nothing watches the objects of others.
	takenRetry = 30 * time.Second
)

// FieldManager owns the fields that the operator sets. It never changes, or old fields would be left behind.
const FieldManager = "atlas-operator"

// Applier applies objects with server-side apply, and leaves out requests that would change nothing: it remembers which
// configuration produced which resourceVersion. The idea is Cluster API's.
type Applier struct {
	client client.Client
	reader client.Reader

	mu   sync.Mutex
	seen map[string]applied
}

type applied struct {
	digest     [sha256.Size]byte
	uid        types.UID
	version    string
	generation int64
}

// NewApplier returns an Applier that reads through the client's cache, and through reader what the cache does not hold.
func NewApplier(c client.Client, reader client.Reader) *Applier {
	return &Applier{client: c, reader: reader, seen: map[string]applied{}}
}

// Apply is ApplyAfter without preparations.
func (a *Applier) Apply(ctx context.Context, owner metav1.Object, want runtime.ApplyConfiguration, live client.Object) (int64, error) {
	return a.ApplyAfter(ctx, owner, want, live, func(context.Context) error { return nil })
}

// ApplyAfter brings the object named as live to want, under owner, and returns the generation that it then has. live is
// read from the cache, which may lag behind the answer. An object of that name that another owner or nobody controls
// is left alone, and the error is Stalled. prepare is called before an object that exists is changed, and not when there is nothing to change.
func (a *Applier) ApplyAfter(
	ctx context.Context, owner metav1.Object, want runtime.ApplyConfiguration, live client.Object, prepare func(context.Context) error,
) (int64, error) {
	body, err := json.Marshal(want)
	if err != nil {
		return 0, fmt.Errorf("encode %T: %w", want, err)
	}
	digest := sha256.Sum256(body)
	kind := kindOf(live)
	key := kind + "/" + live.GetNamespace() + "/" + live.GetName()

	name := client.ObjectKeyFromObject(live)
	err = a.client.Get(ctx, name, live)
	if apierrors.IsNotFound(err) {
		// The cache holds labelled objects only, so look for a foreign one before taking the name.
		err = a.reader.Get(ctx, name, live)
	}
	found := err == nil
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	if found {
		if err := a.checkOwner(ctx, kind, live, owner); err != nil {
			return 0, err
		}
	}

	a.mu.Lock()
	last, known := a.seen[key]
	a.mu.Unlock()
	if found && known && last.digest == digest && last.uid == live.GetUID() && last.version == Version(live) {
		return last.generation, nil
	}

	if found {
		if err := prepare(ctx); err != nil {
			return 0, err
		}
	}
	err = a.client.Apply(ctx, want, client.ForceOwnership, client.FieldOwner(FieldManager))
	if found && apierrors.IsInvalid(err) && a.overwrite(ctx, live, body) == nil {
		err = a.client.Apply(ctx, want, client.ForceOwnership, client.FieldOwner(FieldManager))
	}
	if err != nil {
		return 0, fmt.Errorf("apply %s: %w", key, err)
	}
	// The client decodes the server's answer into want.
	answer := &metav1.PartialObjectMetadata{}
	body, err = json.Marshal(want)
	if err == nil {
		err = json.Unmarshal(body, answer)
	}
	if err != nil {
		return 0, fmt.Errorf("decode the answer for %s: %w", key, err)
	}
	version := answer.ResourceVersion
	switch live.(type) {
	case *metav1.PartialObjectMetadata:
		version = Version(answer)
	case *autoscalingv2.HorizontalPodAutoscaler:
		scaler := &autoscalingv2.HorizontalPodAutoscaler{}
		if err := json.Unmarshal(body, scaler); err != nil {
			return 0, fmt.Errorf("decode the answer for %s: %w", key, err)
		}
		version = Version(scaler)
	}
	a.mu.Lock()
	a.seen[key] = applied{digest: digest, uid: answer.UID, version: version, generation: answer.Generation}
	a.mu.Unlock()
	return answer.Generation, nil
}

// Version changes when an object does. Where only the metadata is known it does not with the status, which some controllers write every few seconds: the
// generation, where the kind has one, and the metadata that a person may edit stand for the rest. Nor does it with the status of a HorizontalPodAutoscaler,
// which has no generation.
func Version(o client.Object) string {
	if scaler, ok := o.(*autoscalingv2.HorizontalPodAutoscaler); ok {
		return edited(scaler, &scaler.Spec)
	}
	if _, metadataOnly := o.(*metav1.PartialObjectMetadata); !metadataOnly || o.GetGeneration() == 0 {
		return o.GetResourceVersion()
	}
	return fmt.Sprintf("%d/%s", o.GetGeneration(), edited(o))
}

// edited changes with what a person may edit.
func edited(o client.Object, parts ...any) string {
	content, err := json.Marshal([]any{o.GetLabels(), o.GetAnnotations(), o.GetOwnerReferences(), o.GetDeletionTimestamp(), parts})
	if err != nil {
		return o.GetResourceVersion()
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// Remove deletes the object named as live, if it is there and owner's. It reports whether nothing of it is left; a finalizer of somebody's may
// keep it for a while.
func (a *Applier) Remove(ctx context.Context, owner metav1.Object, live client.Object) (gone bool, err error) {
	key := kindOf(live) + "/" + live.GetNamespace() + "/" + live.GetName()
	err = a.client.Get(ctx, client.ObjectKeyFromObject(live), live)
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", key, err)
	}
	if own, err := a.Owns(ctx, owner, live); !own || err != nil {
		return err == nil, err
	}
	a.mu.Lock()
	delete(a.seen, key)
	a.mu.Unlock()
	uid := live.GetUID()
	if live.GetDeletionTimestamp().IsZero() {
		err = a.client.Delete(ctx, live, client.PropagationPolicy(metav1.DeletePropagationBackground), client.Preconditions{UID: &uid})
		if client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return false, fmt.Errorf("delete %s: %w", key, err)
		}
	}
	return false, nil
}

// overwrite puts the lists of an object right as wholes. Server-side apply merges lists and keeps the entries of others, and an
// edited one, such as another port of the same name, can make the sum invalid for good.
func (a *Applier) overwrite(ctx context.Context, live client.Object, body []byte) error {
	return a.client.Patch(ctx, live, client.RawPatch(types.MergePatchType, body), client.FieldOwner(FieldManager))
}

// Forget drops what is remembered about a namespace's objects with these names, after their owner is gone.
func (a *Applier) Forget(namespace string, names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.seen {
		for _, name := range names {
			if strings.HasSuffix(key, "/"+namespace+"/"+name) {
				delete(a.seen, key)
			}
		}
	}
}

// checkOwner refuses to take over an object that is not owner's. One of its own that lost its owner gets it back by being applied.
func (a *Applier) checkOwner(ctx context.Context, kind string, live client.Object, owner metav1.Object) error {
	if own, err := a.Owns(ctx, owner, live); own || err != nil {
		return err
	}
	if ref := metav1.GetControllerOf(live); ref != nil && ref.Kind == stackKind && ref.Name == owner.GetName() {
		return &Waiting{Reason: v1alpha1.ReasonProgressing, After: removalRetry, Message: fmt.Sprintf(
			"waiting until %s %s of an earlier AtlasStack %s is removed", kind, live.GetName(), owner.GetName())}
	}
	return &Stalled{Reason: v1alpha1.ReasonNameTaken, After: takenRetry, Message: fmt.Sprintf(
		"%s %s exists and does not belong to AtlasStack %s: delete it, or name the stack differently", kind, live.GetName(), owner.GetName())}
}

// kindOf is the kind that the object says it has, else the name of its Go type, which for every other type used here is its kind.
func kindOf(o client.Object) string {
	if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != "" {
		return kind
	}
	return reflect.TypeOf(o).Elem().Name()
}
