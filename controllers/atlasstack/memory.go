package atlasstack

import (
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// memory is what this process knows of the stacks and the cluster does not. It is lost with a restart.
type memory struct {
	mu      sync.Mutex
	byStack map[types.NamespacedName]*remembered
}

// remembered is what is known of one stack. Only the pass over that stack uses it, and no two of those run at the same time.
type remembered struct {
	uid types.UID
	// made are what each role's Deployment was last made of, and found are the objects of those that this process has not made yet.
	made  map[workloads.Role]*recipe
	found map[workloads.Role][]found
	// read is what the Secrets and ConfigMaps of a stack held last whose deletion needs them, by kind and name. They may be deleted before the stack is.
	read map[string]content
	// reread is true when the cache may be behind for good: the API server refused something in the last pass, which may mean that the watch is refused as well, or has
	// another version of the stack.
	reread bool
	// deleted is when this process first saw that the stack is being deleted.
	deleted time.Time
	// failing is why a pod of a migration Job failed, as last seen: the pods of a Job that took too long are gone.
	failing struct {
		job types.UID
		why string
	}
}

// leadsTo is true for what is needed to reach Kafka or Elasticsearch.
func leadsTo(server string, ref workloads.Reference) bool {
	return strings.HasPrefix(string(ref.Input), server+"-")
}

// readFrom takes over what was read, and keeps what it has of an object that is gone, as long as the stack refers to it.
func (k *remembered) readFrom(stack *v1alpha1.AtlasStack, read map[string]content) {
	if !drops(stack) {
		k.read = nil
		return
	}
	before := k.read
	k.read = map[string]content{}
	for _, ref := range workloads.References(stack) {
		if !leadsTo("kafka", ref) && !leadsTo("elasticsearch", ref) {
			continue
		}
		id := ref.Kind() + "/" + ref.Name
		if now, ok := read[id]; ok {
			k.read[id] = now
		} else if last, ok := before[id]; ok {
			k.read[id] = last
		}
	}
}

// recipe is what a role's objects are made of. Its contents of Secrets are those that the operator holds anyway.
type recipe struct {
	spec   v1alpha1.AtlasStackSpec
	inputs workloads.Inputs
}

// of is what is known of a stack, nothing of one that had its name before.
func (m *memory) of(stack *v1alpha1.AtlasStack) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := types.NamespacedName{Namespace: stack.Namespace, Name: stack.Name}
	known := m.byStack[name]
	if known == nil || known.uid != stack.UID {
		known = &remembered{uid: stack.UID, made: map[workloads.Role]*recipe{}, found: map[workloads.Role][]found{}}
		if m.byStack == nil {
			m.byStack = map[types.NamespacedName]*remembered{}
		}
		m.byStack[name] = known
	}
	return known
}

func (m *memory) forget(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.byStack, name)
}
