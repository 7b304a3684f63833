package atlasstack_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// TestEveryFieldOfEveryChildIsPutRight changes and removes each field that the operator has set, of one object of every kind, and the owner of every
// object, and deletes every object. Each is put right, and nothing else changes.
func TestEveryFieldOfEveryChildIsPutRight(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(full, func(s *v1alpha1.AtlasStackSpec) {
		s.Kafka.Brokers, s.Elasticsearch.Addresses = []string{b.kafka.address}, []string{b.elastic.address}
	})
	require.Greater(t, b.breakAndMend(1), 100)
	b.untilReady()
}

// breakAndMend edits every field, or each so many, of one object of each kind, and the owner of every object, deletes every object, and waits each time until it is
// as it was. It returns how many edits there were.
func (b *bundle) breakAndMend(each int) (edits int) {
	b.t.Helper()
	kinds := map[string]bool{}
	for _, child := range b.children() {
		kind, n, owners := child.GetKind(), 0, 0
		for i, path := range ownFields(b.t, &child) {
			if isOwner(path) {
				owners += b.editField(child.DeepCopy(), path)
			} else if !kinds[kind] && (i%each == 0 || each > 1 && n == 0) {
				n += b.editField(child.DeepCopy(), path)
			}
		}
		require.Positive(b.t, owners, "the owner of %s %s could not be removed", kind, child.GetName())
		if !kinds[kind] {
			kinds[kind] = true
			b.t.Logf("%s: %d edits", kind, n)
			require.Positive(b.t, n, "no field of %s could be edited", kind)
			edits += n
		}
	}
	for _, child := range b.children() {
		before := b.versionsBut(&child)
		require.NoError(b.t, b.client.Delete(b.t.Context(), &child, client.PropagationPolicy(metav1.DeletePropagationBackground)))
		b.untilRight(&child, "deleted")
		require.Equal(b.t, before, b.versionsBut(&child), "deleting %s %s changed something else", child.GetKind(), child.GetName())
	}
	return edits
}

// children are the objects that the operator applies.
func (b *bundle) children() (children []unstructured.Unstructured) {
	b.t.Helper()
	kinds, err := operatorKinds(b.client.RESTMapper())
	require.NoError(b.t, err)
	w := &world{suite: b.suite, ctx: b.t.Context(), namespace: b.namespace, kinds: kinds}
	all, err := w.objects()
	require.NoError(b.t, err)
	for _, o := range all {
		// A Secret is made once and then belongs to nobody, a Job is done once: see TestAFinishedMigrationIsKept.
		if o.GetKind() != "Secret" && o.GetKind() != "Job" {
			children = append(children, o)
		}
	}
	return children
}

// versionsBut are the resource versions of all children but one.
func (b *bundle) versionsBut(one *unstructured.Unstructured) map[string]string {
	versions := map[string]string{}
	for _, o := range b.children() {
		if o.GetKind() != one.GetKind() || o.GetName() != one.GetName() {
			versions[o.GetKind()+"/"+o.GetName()] = o.GetResourceVersion()
		}
	}
	return versions
}

// ownFields are the fields that the operator has applied.
func ownFields(t *testing.T, o *unstructured.Unstructured) (paths []fieldpath.Path) {
	t.Helper()
	for _, entry := range o.GetManagedFields() {
		if entry.Manager != apply.FieldManager || entry.Operation != metav1.ManagedFieldsOperationApply {
			continue
		}
		set := &fieldpath.Set{}
		require.NoError(t, set.FromJSON(entry.FieldsV1.GetRawReader()))
		set.Leaves().Iterate(func(path fieldpath.Path) {
			if !isKey(path) { // an entry of a list under another name is another one's
				paths = append(paths, path.Copy())
			}
		})
	}
	require.NotEmpty(t, paths, "%s %s", o.GetKind(), o.GetName())
	return paths
}

// isOwner is true for the reference to the stack.
func isOwner(path fieldpath.Path) bool {
	return len(path) > 1 && path[1].FieldName != nil && *path[1].FieldName == "ownerReferences"
}

// isKey is true for a field by which an entry of a list is found.
func isKey(path fieldpath.Path) bool {
	if len(path) < 2 || path[len(path)-2].Key == nil || path[len(path)-1].FieldName == nil {
		return false
	}
	return slices.ContainsFunc(*path[len(path)-2].Key, func(field value.Field) bool { return field.Name == *path[len(path)-1].FieldName })
}

// editField changes one field, or removes it where it can't have another value, and returns how often the API server let it.
func (b *bundle) editField(o *unstructured.Unstructured, path fieldpath.Path) (edits int) {
	b.t.Helper()
	for _, how := range []func(any) (any, bool){other, removed} {
		live := o.DeepCopy()
		require.NoError(b.t, b.client.Get(b.t.Context(), client.ObjectKeyFromObject(o), live))
		edited, ok := edit(live.DeepCopy().Object, path, how).(map[string]any)
		if !ok || equality.Semantic.DeepEqual(edited, live.Object) {
			continue
		}
		before, version := b.versionsBut(o), live.GetResourceVersion()
		changed := &unstructured.Unstructured{Object: edited}
		err := b.client.Update(b.t.Context(), changed, client.FieldOwner("kubectl-edit"))
		if err != nil || changed.GetResourceVersion() == version {
			continue // it can't be edited
		}
		require.Equal(b.t, live.GetUID(), b.untilRight(o, path.String()).GetUID(), "%s %s was made anew", o.GetKind(), o.GetName())
		require.Equal(b.t, before, b.versionsBut(o), "editing %s of %s %s changed something else", path, o.GetKind(), o.GetName())
		edits++
	}
	return edits
}

// untilRight waits until an object is as it was, and returns it.
func (b *bundle) untilRight(want *unstructured.Unstructured, what string) (got *unstructured.Unstructured) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		got = want.DeepCopy()
		err := b.client.Get(b.t.Context(), client.ObjectKeyFromObject(want), got)
		return err == nil && equality.Semantic.DeepEqual(applied(want), applied(got))
	}, patience, tick/5, "%s %s, %s", want.GetKind(), want.GetName(), what)
	return got
}

// applied is what of an object does not change by itself.
func applied(o *unstructured.Unstructured) map[string]any {
	out := o.DeepCopy().Object
	delete(out, "status")
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
		unstructured.RemoveNestedField(out, "metadata", field)
	}
	unstructured.RemoveNestedField(out, "metadata", "annotations", "deployment.kubernetes.io/revision")
	unstructured.RemoveNestedField(out, "spec", "clusterIP")
	unstructured.RemoveNestedField(out, "spec", "clusterIPs")
	return out
}

// other is another value of the same type.
func other(old any) (any, bool) {
	switch v := old.(type) {
	case string:
		if v == "" {
			return nil, false
		}
		return v + "x", true
	case bool:
		return !v, true
	case int64:
		return v + 1, true
	case float64:
		return v + 1, true
	}
	return nil, false
}

func removed(any) (any, bool) { return nil, true }

// edit returns a value with one place within it edited. how returns nil to remove what is there.
func edit(in any, path fieldpath.Path, how func(any) (any, bool)) any {
	if len(path) == 0 {
		if edited, ok := how(in); ok {
			return edited
		}
		return in
	}
	step := path[0]
	switch v := in.(type) {
	case map[string]any:
		if step.FieldName == nil || v[*step.FieldName] == nil {
			return in
		}
		if edited := edit(v[*step.FieldName], path[1:], how); edited != nil {
			v[*step.FieldName] = edited
		} else {
			delete(v, *step.FieldName)
		}
	case []any:
		var items []any
		for i, item := range v {
			if isStep(item, i, step) {
				item = edit(item, path[1:], how)
			}
			if item != nil {
				items = append(items, item)
			}
		}
		return items
	}
	return in
}

func isStep(item any, i int, step fieldpath.PathElement) bool {
	switch {
	case step.Index != nil:
		return *step.Index == i
	case step.Value != nil:
		return fmt.Sprint(item) == fmt.Sprint((*step.Value).Unstructured())
	case step.Key != nil:
		fields, ok := item.(map[string]any)
		for _, key := range *step.Key {
			ok = ok && fmt.Sprint(fields[key.Name]) == fmt.Sprint(key.Value.Unstructured())
		}
		return ok
	}
	return false
}

// TestFieldsOfOthersSurvive: a sidecar that was injected, annotations and labels, while the operator changes what is its own.
func TestFieldsOfOthersSurvive(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp()
	d := b.deployment(workloads.RoleAPI)
	before := d.DeepCopy()
	d.Annotations = map[string]string{"example.com/note": "kept"}
	d.Labels["example.com/team"] = "kept"
	d.Spec.Template.Annotations["example.com/inject"] = "kept"
	d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: "proxy", Image: "proxy:1"})
	require.NoError(t, b.client.Patch(t.Context(), d, client.StrategicMergeFrom(before), client.FieldOwner("injector")))
	b.update(func(s *v1alpha1.AtlasStackSpec) { s.LogLevel = "debug" })
	b.untilReady()
	d = b.deployment(workloads.RoleAPI)
	require.Equal(t, "kept", d.Annotations["example.com/note"])
	require.Equal(t, "kept", d.Labels["example.com/team"])
	require.Equal(t, "kept", d.Spec.Template.Annotations["example.com/inject"])
	require.Len(t, d.Spec.Template.Spec.Containers, 2)
}

// TestEverythingOutsideIsPutRight at the interval, or when it is asked for. Each thing drifts by itself, and nothing else changes.
func TestEverythingOutsideIsPutRight(t *testing.T) {
	t.Parallel()
	b := newBundle(t)
	b.bringUp(func(s *v1alpha1.AtlasStackSpec) {
		s.Kafka.Topic.Config = map[string]string{"compression.type": "zstd"}
		s.Kafka.Topic.Retention = &metav1.Duration{Duration: time.Hour}
	})
	versions := b.versions()
	dead := topicName + ".dlq"
	// state is what Kafka and Elasticsearch have, after a change.
	state := func(change func(map[string]topic.State, *elasticServer)) string {
		b.kafka.mu.Lock()
		defer b.kafka.mu.Unlock()
		b.elastic.mu.Lock()
		defer b.elastic.mu.Unlock()
		change(b.kafka.topics, b.elastic)
		return fmt.Sprint(b.kafka.topics) + b.elastic.content() // maps are printed in the order of their keys
	}
	none := func(map[string]topic.State, *elasticServer) {}
	right := state(none)
	for name, drift := range map[string]func(map[string]topic.State, *elasticServer){
		"a setting of the topic":            func(k map[string]topic.State, _ *elasticServer) { k[topicName].Config["compression.type"] = "none" },
		"the retention of the topic":        func(k map[string]topic.State, _ *elasticServer) { k[topicName].Config["retention.ms"] = "1" },
		"a setting of the topic is removed": func(k map[string]topic.State, _ *elasticServer) { delete(k[topicName].Config, "compression.type") },
		"the retention of dead letters":     func(k map[string]topic.State, _ *elasticServer) { k[dead].Config["retention.ms"] = "1" },
		"the topic is deleted":              func(k map[string]topic.State, _ *elasticServer) { delete(k, topicName) },
		"the dead-letter topic is deleted":  func(k map[string]topic.State, _ *elasticServer) { delete(k, dead) },
		"the template is edited":            func(_ map[string]topic.State, e *elasticServer) { e.otherTemplate = true },
		"the template is deleted":           func(_ map[string]topic.State, e *elasticServer) { e.template = false },
		"the alias is removed":              func(_ map[string]topic.State, e *elasticServer) { e.alias = false },
		"the alias is led elsewhere":        func(_ map[string]topic.State, e *elasticServer) { e.alias, e.foreign = false, true },
		"the alias leads elsewhere as well": func(_ map[string]topic.State, e *elasticServer) { e.foreign = true },
		"the alias gets a filter":           func(_ map[string]topic.State, e *elasticServer) { e.hidden = true },
		"the index is deleted":              func(_ map[string]topic.State, e *elasticServer) { e.index, e.alias = false, false },
		"template, index and alias go":      func(_ map[string]topic.State, e *elasticServer) { e.template, e.index, e.alias = false, false, false },
		"a setting of the index": func(_ map[string]topic.State, e *elasticServer) {
			e.otherSettings = map[string]any{"index.refresh_interval": "30s"}
		},
	} {
		require.NotEqual(t, right, state(drift), name)
		b.annotate(v1alpha1.ReconcileRequestAnnotation, name)
		require.Eventually(t, func() bool { return state(none) == right }, patience, tick, name)
	}
	b.untilReady()
	require.Equal(t, versions, b.versions(), "nothing in the cluster changed")
}
