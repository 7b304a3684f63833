package atlasstack_test

import (
	"context"
	"errors"
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/atlas-platform/atlas/controllers/atlasstack"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/internal/elastic"
)

// fault is what goes wrong with one call of an operator, to Kubernetes, Kafka or Elasticsearch.
type fault struct {
	call  int  // the n-th one; 0 for none
	after bool // it takes effect, and nobody hears of it
	dies  bool // nor does anything later, in this operator's life
	mute  bool // no status is written, in this operator's life
}

var errFault = errors.New("the call failed, says the test")

// life counts an operator's calls.
type life struct {
	mu     sync.Mutex
	fault  fault
	calls  int
	dead   bool
	writes []bool // what each call was, in the order of the calls
	// behind is what the operator sees of the Deployments, by name, instead of what there is.
	behind map[string]*appsv1.Deployment
}

func (l *life) do(write bool, call func() error) error {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return errFault
	}
	l.calls++
	l.writes = append(l.writes, write)
	now := l.calls == l.fault.call
	l.dead = now && l.fault.dies
	l.mu.Unlock()
	if now && !l.fault.after {
		return errFault
	}
	err := call()
	if now {
		return errFault
	}
	return err
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// mortal is a client whose calls may go wrong. It reads from the API server and knows the indexes of the manager's cache, within one namespace.
func (l *life) mortal(base client.WithWatch, namespace string) client.Client {
	return interceptor.NewClient(base, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if d, ok := o.(*appsv1.Deployment); ok && l.behind[key.Name] != nil {
				l.behind[key.Name].DeepCopyInto(d)
				return nil
			}
			return l.do(false, func() error { return c.Get(ctx, key, o, options...) })
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return l.do(false, func() error { return listIndexed(ctx, c, namespace, list, options) })
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			return l.do(true, func() error { return c.Create(ctx, o, options...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
			return l.do(true, func() error { return c.Delete(ctx, o, options...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			return l.do(true, func() error { return c.Patch(ctx, o, patch, options...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			return l.do(true, func() error { return c.Apply(ctx, o, options...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, o client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			if l.fault.mute {
				return errFault
			}
			return l.do(true, func() error { return c.SubResource(name).Patch(ctx, o, patch, options...) })
		},
	})
}

func listIndexed(ctx context.Context, c client.Client, namespace string, list client.ObjectList, options []client.ListOption) error {
	o := (&client.ListOptions{}).ApplyOptions(options)
	if _, pods := list.(*corev1.PodList); pods || o.FieldSelector == nil { // the API server has indexes of pods
		return c.List(ctx, list, options...)
	}
	want := o.FieldSelector.Requirements()[0]
	o.FieldSelector, o.Namespace = nil, namespace
	if err := c.List(ctx, list, o); err != nil {
		return err
	}
	all, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(object runtime.Object) bool {
		return !slices.Contains(atlasstack.Indexed(want.Field, object.(client.Object)), want.Value)
	})
	return meta.SetList(list, all)
}

// mortalTopics and mortalIndices are the same for Kafka and Elasticsearch.
type mortalTopics struct {
	topic.Admin
	life *life
}

func (m mortalTopics) Describe(ctx context.Context, name string) (state *topic.State, err error) {
	err = m.life.do(false, func() error { state, err = m.Admin.Describe(ctx, name); return err })
	return state, err
}

func (m mortalTopics) ClusterID(ctx context.Context) (id string, err error) {
	err = m.life.do(false, func() error { id, err = m.Admin.ClusterID(ctx); return err })
	return id, err
}

func (m mortalTopics) Create(ctx context.Context, spec topic.Spec) error {
	return m.life.do(true, func() error { return m.Admin.Create(ctx, spec) })
}

func (m mortalTopics) AddPartitions(ctx context.Context, name string, total int32) error {
	return m.life.do(true, func() error { return m.Admin.AddPartitions(ctx, name, total) })
}

func (m mortalTopics) SetConfig(ctx context.Context, name string, config map[string]string) error {
	return m.life.do(true, func() error { return m.Admin.SetConfig(ctx, name, config) })
}

func (m mortalTopics) Delete(ctx context.Context, name string) error {
	return m.life.do(true, func() error { return m.Admin.Delete(ctx, name) })
}

func (m mortalTopics) DeleteGroup(ctx context.Context, name string) error {
	return m.life.do(true, func() error { return m.Admin.DeleteGroup(ctx, name) })
}

type mortalIndices struct {
	template.Admin
	life *life
}

func (m mortalIndices) Observe(ctx context.Context, alias string) (state elastic.IndexState, err error) {
	err = m.life.do(false, func() error { state, err = m.Admin.Observe(ctx, alias); return err })
	return state, err
}

func (m mortalIndices) ClusterUUID(ctx context.Context) (id string, err error) {
	err = m.life.do(false, func() error { id, err = m.Admin.ClusterUUID(ctx); return err })
	return id, err
}

func (m mortalIndices) Apply(ctx context.Context, change elastic.IndexChange) error {
	return m.life.do(true, func() error { return m.Admin.Apply(ctx, change) })
}

func (m mortalIndices) Drop(ctx context.Context, alias string) error {
	return m.life.do(true, func() error { return m.Admin.Drop(ctx, alias) })
}
