package atlasstack

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
)

// claimIndex finds the stacks that want a topic or an alias at an address, or that have it on a cluster.
const claimIndex = "claims"

// recordedSoon is when a stack is looked at again whose status has to tell of something before it is done.
const recordedSoon = 20 * time.Millisecond

func indexClaimed(mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.AtlasStack{}, claimIndex, func(o client.Object) []string {
		stack, ok := o.(*v1alpha1.AtlasStack)
		if !ok {
			return nil
		}
		return allClaims(stack)
	})
	if err != nil {
		return fmt.Errorf("index AtlasStacks by topic and alias: %w", err)
	}
	return nil
}

// deadLetters is the name of a topic's dead-letter topic.
func deadLetters(name string) string { return name + ".dlq" }

// topicClaims are a stack's claims to its topics: at each address, and on the cluster where it has them.
func topicClaims(stack *v1alpha1.AtlasStack) (keys []string) {
	spec := &stack.Spec.Kafka
	for _, broker := range spec.Brokers {
		keys = append(keys, topicKeys("at", strings.ToLower(broker), spec.Topic.Name)...)
	}
	if has := stack.Status.Topic; has != nil && has.ClusterID != "" {
		keys = append(keys, topicKeys("on", has.ClusterID, has.Name)...)
	}
	return keys
}

// topicKeys are two: the dead-letter topic of one stack may be the topic of another.
func topicKeys(how, where, name string) []string {
	prefix := "kafka " + how + " " + where + " "
	return []string{prefix + name, prefix + deadLetters(name)}
}

// indexClaims are a stack's claims to its alias.
func indexClaims(stack *v1alpha1.AtlasStack) (keys []string) {
	spec := &stack.Spec.Elasticsearch
	for _, address := range spec.Addresses {
		keys = append(keys, indexKey("at", strings.ToLower(strings.TrimRight(address, "/")), spec.Index.Alias))
	}
	if spec.CloudID != "" {
		keys = append(keys, indexKey("at", spec.CloudID, spec.Index.Alias))
	}
	if has := stack.Status.SearchIndex; has != nil && has.ClusterUUID != "" {
		keys = append(keys, indexKey("on", has.ClusterUUID, has.Alias))
	}
	return keys
}

func indexKey(how, where, alias string) string {
	return "elasticsearch " + how + " " + where + " " + alias
}

func allClaims(stack *v1alpha1.AtlasStack) []string {
	return append(topicClaims(stack), indexClaims(stack)...)
}

// holders are the stacks that this process has let have a claim. The cache shows a stack before its status does, so that without them two could win.
type holders struct {
	mu    sync.Mutex
	byKey map[string]holder
	// waiting are the stacks that were refused, by the key. One that has another address for the same server is found here only.
	waiting map[string]map[types.NamespacedName]bool
}

type holder struct {
	uid  types.UID
	name types.NamespacedName
}

// claim takes the keys for the stack, or returns the stack that comes before it.
func (r *Reconciler) claim(ctx context.Context, stack *v1alpha1.AtlasStack, condition string, keys []string) (*v1alpha1.AtlasStack, error) {
	r.holders.mu.Lock()
	defer r.holders.mu.Unlock()
	for _, key := range keys {
		others, err := r.claimants(ctx, stack, key)
		if err != nil {
			return nil, err
		}
		for i := range others {
			if r.comesFirst(&others[i], stack, condition, key) {
				r.holders.wait(key, client.ObjectKeyFromObject(stack))
				return &others[i], nil
			}
		}
	}
	for _, key := range keys {
		r.holders.byKey[key] = holder{stack.UID, client.ObjectKeyFromObject(stack)}
	}
	return nil, nil
}

// claimants are the other stacks with a claim.
func (r *Reconciler) claimants(ctx context.Context, stack *v1alpha1.AtlasStack, key string) ([]v1alpha1.AtlasStack, error) {
	list := &v1alpha1.AtlasStackList{}
	if err := r.Client.List(ctx, list, client.MatchingFields{claimIndex: key}); err != nil {
		return nil, fmt.Errorf("look for other stacks with the same topic or index: %w", err)
	}
	return slices.DeleteFunc(list.Items, func(other v1alpha1.AtlasStack) bool { return other.UID == stack.UID }), nil
}

// comesFirst settles between two stacks: the one that this process has let have it, then the one that has it by its status, then the older one.
func (r *Reconciler) comesFirst(other, stack *v1alpha1.AtlasStack, condition, key string) bool {
	switch r.holders.byKey[key].uid {
	case other.UID:
		return true
	case stack.UID:
		return false
	}
	if a, b := has(other, condition), has(stack, condition); a != b {
		return a
	}
	if !other.CreationTimestamp.Equal(&stack.CreationTimestamp) {
		return other.CreationTimestamp.Before(&stack.CreationTimestamp)
	}
	return other.UID < stack.UID
}

// has is true for a stack that has a topic or an index, and was not refused since.
func has(stack *v1alpha1.AtlasStack, condition string) bool {
	if c := meta.FindStatusCondition(stack.Status.Conditions, condition); c != nil && c.Reason == v1alpha1.ReasonClaimedByOther {
		return false
	}
	if condition == v1alpha1.ConditionTopicReady {
		return stack.Status.Topic != nil
	}
	return stack.Status.SearchIndex != nil
}

// claimTopic and claimIndexAlias are what has to succeed before anything of topic or index is touched.
func (r *Reconciler) claimTopic(ctx context.Context, p *pass, keys []string) error {
	other, err := r.claim(ctx, p.stack, v1alpha1.ConditionTopicReady, keys)
	if err != nil || other == nil {
		return err
	}
	return claimed(p.stack, other, "topic "+p.stack.Spec.Kafka.Topic.Name+" on this Kafka", "kafka.topic.name", "kafka.brokers")
}

func (r *Reconciler) claimAlias(ctx context.Context, p *pass, keys []string) error {
	other, err := r.claim(ctx, p.stack, v1alpha1.ConditionSearchIndexReady, keys)
	if err != nil || other == nil {
		return err
	}
	return claimed(p.stack, other, "alias "+p.stack.Spec.Elasticsearch.Index.Alias+" on this Elasticsearch", "elasticsearch.index.alias", "elasticsearch.addresses")
}

func claimed(stack, other *v1alpha1.AtlasStack, what, name, address string) error {
	whose := other.Name
	if other.Namespace != stack.Namespace {
		whose += " in namespace " + other.Namespace
	}
	return &apply.Stalled{Reason: v1alpha1.ReasonClaimedByOther, Message: fmt.Sprintf(
		"%s belongs to AtlasStack %s, and nothing of it is touched: create this stack again with another %s, give it another %s, or delete the other one",
		what, whose, name, address)}
}

// claims takes everything that can be claimed without asking anybody. What can't be had keeps this stack from starting anything.
func (r *Reconciler) claims(ctx context.Context, p *pass) {
	for condition, err := range map[string]error{
		v1alpha1.ConditionTopicReady:       r.claimTopic(ctx, p, topicClaims(p.stack)),
		v1alpha1.ConditionSearchIndexReady: r.claimAlias(ctx, p, indexClaims(p.stack)),
	} {
		if err != nil {
			p.failed[condition] = err
			apply.SetStepResult(&p.stack.Status.Conditions, p.stack.Generation, condition, "", err)
		}
	}
}

// rivals are the stacks that want what another one wants, has, or had.
func (r *Reconciler) rivals(ctx context.Context, object client.Object) (requests []reconcile.Request) {
	stack, ok := object.(*v1alpha1.AtlasStack)
	if !ok {
		return nil
	}
	for _, key := range allClaims(stack) {
		others, err := r.claimants(ctx, stack, key)
		if err != nil {
			logf.FromContext(ctx).Error(err, "Look for stacks that wait for another one", "stack", client.ObjectKeyFromObject(stack))
		}
		for i := range others {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&others[i])})
		}
		for _, name := range r.holders.waitingFor(key) {
			requests = append(requests, reconcile.Request{NamespacedName: name})
		}
	}
	return requests
}

// claimsGo is true when a stack may leave something to others.
func claimsGo() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*v1alpha1.AtlasStack)
			after, also := e.ObjectNew.(*v1alpha1.AtlasStack)
			return ok && also && slices.ContainsFunc(allClaims(before), func(key string) bool { return !slices.Contains(allClaims(after), key) })
		},
	}
}

// ownTopic puts into the status that the stack has the topics, before it touches them for the first time. What is in the status is deleted with the stack,
// where its spec wants that; what it could not take over is not.
func (r *Reconciler) ownTopic(ctx context.Context, p *pass, admin topic.Admin, main, dead topic.Spec) error {
	id, err := admin.ClusterID(ctx)
	if err != nil {
		return err
	}
	want := v1alpha1.TopicStatus{ClusterID: id, Name: main.Name}
	if id != "" {
		if err := r.claimTopic(ctx, p, topicKeys("on", id, main.Name)); err != nil {
			return err
		}
	}
	if has := p.stack.Status.Topic; has != nil && *has == want {
		return nil
	}
	same, err := topic.Same(ctx, admin, main, dead)
	if err != nil {
		return err
	}
	p.stack.Status.Topic = &want
	if same {
		return nil
	}
	return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: "topic " + main.Name + " is made", After: recordedSoon}
}

// ownIndex does the same for the index.
func (r *Reconciler) ownIndex(ctx context.Context, p *pass, admin template.Admin) error {
	uuid, err := admin.ClusterUUID(ctx)
	if err != nil {
		return err
	}
	want := v1alpha1.SearchIndexStatus{ClusterUUID: uuid, Alias: p.stack.Spec.Elasticsearch.Index.Alias}
	if uuid != "" {
		if err := r.claimAlias(ctx, p, []string{indexKey("on", uuid, want.Alias)}); err != nil {
			return err
		}
	}
	if has := p.stack.Status.SearchIndex; has != nil && *has == want {
		return nil
	}
	state, err := admin.Observe(ctx, want.Alias)
	if err != nil {
		return err
	}
	if state.AliasIsIndex {
		return nil // Ensure says what to do
	}
	if len(state.Foreign) > 0 {
		return &apply.Stalled{Reason: v1alpha1.ReasonForbiddenChange, Message: fmt.Sprintf(
			"alias %s leads to index %s, which is not Atlas's, so nothing is touched: remove that alias, or create this stack again with another elasticsearch.index.alias",
			want.Alias, strings.Join(state.Foreign, ", "))}
	}
	p.stack.Status.SearchIndex = &want
	if len(state.Indices) > 0 {
		return nil
	}
	return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: "index " + want.Alias + " is made", After: recordedSoon}
}

// wait remembers a stack that was refused.
func (h *holders) wait(key string, name types.NamespacedName) {
	if h.waiting[key] == nil {
		h.waiting[key] = map[types.NamespacedName]bool{}
	}
	h.waiting[key][name] = true
}

// waitingFor are the stacks that were refused, who are asked anew.
func (h *holders) waitingFor(key string) []types.NamespacedName {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := slices.Collect(maps.Keys(h.waiting[key]))
	delete(h.waiting, key)
	return names
}

// forget drops what this process has let a stack have that is gone.
func (h *holders) forget(name types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.byKey, func(_ string, holder holder) bool { return holder.name == name })
}
