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

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

const (
	stackKind    = "AtlasStack"
	removalRetry = 2 * time.Second
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
	digest          [sha256.Size]byte
	uid             types.UID
	resourceVersion string
	generation      int64
}

// NewApplier returns an Applier that reads through the client's cache, and through reader what the cache does not hold.
func NewApplier(c client.Client, reader client.Reader) *Applier {
	return &Applier{client: c, reader: reader, seen: map[string]applied{}}
}

// Apply brings the object named as live to want, under owner, and returns the generation that it then has. live is
// read from the cache, which may lag behind the answer. An object of that name that another owner or nobody controls
// is left alone, and the error is Stalled.
func (a *Applier) Apply(ctx context.Context, owner metav1.Object, want runtime.ApplyConfiguration, live client.Object) (int64, error) {
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
		if err := checkOwner(kind, live, owner); err != nil {
			return 0, err
		}
	}

	a.mu.Lock()
	last, known := a.seen[key]
	a.mu.Unlock()
	if found && known && last.digest == digest && last.uid == live.GetUID() && last.resourceVersion == live.GetResourceVersion() {
		return last.generation, nil
	}

	err = a.client.Apply(ctx, want, client.ForceOwnership, client.FieldOwner(FieldManager))
	if found && apierrors.IsInvalid(err) && a.overwrite(ctx, live, body) == nil {
		err = a.client.Apply(ctx, want, client.ForceOwnership, client.FieldOwner(FieldManager))
	}
	if err != nil {
		return 0, fmt.Errorf("apply %s: %w", key, err)
	}
	// The client decodes the server's answer into want.
	var answer struct {
		Metadata struct {
			UID             types.UID `json:"uid"`
			ResourceVersion string    `json:"resourceVersion"`
			Generation      int64     `json:"generation"`
		} `json:"metadata"`
	}
	body, err = json.Marshal(want)
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil {
		return 0, fmt.Errorf("decode the answer for %s: %w", key, err)
	}
	a.mu.Lock()
	a.seen[key] = applied{digest: digest, uid: answer.Metadata.UID, resourceVersion: answer.Metadata.ResourceVersion, generation: answer.Metadata.Generation}
	a.mu.Unlock()
	return answer.Metadata.Generation, nil
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

// checkOwner refuses to take over an object that owner does not control.
func checkOwner(kind string, live client.Object, owner metav1.Object) error {
	if metav1.IsControlledBy(live, owner) {
		return nil
	}
	if ref := metav1.GetControllerOf(live); ref != nil && ref.Kind == stackKind && ref.Name == owner.GetName() {
		return &Waiting{Reason: v1alpha1.ReasonProgressing, After: removalRetry, Message: fmt.Sprintf(
			"waiting until %s %s of an earlier AtlasStack %s is removed", kind, live.GetName(), owner.GetName())}
	}
	return &Stalled{Reason: "NameTaken", Message: fmt.Sprintf(
		"%s %s exists and does not belong to AtlasStack %s: delete it, or name the stack differently", kind, live.GetName(), owner.GetName())}
}

// kindOf is the name of the object's Go type, which for every type used here is its kind.
func kindOf(o client.Object) string {
	return reflect.TypeOf(o).Elem().Name()
}
