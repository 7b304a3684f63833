package atlasstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/elastic"
)

// step is one part of a reconciliation. It does what it can at once and never waits.
type step struct {
	// condition is what the step's result is written to.
	condition string
	// needs are the conditions of the steps that must have succeeded in this pass.
	needs []string
	// run returns nil with what to say, *apply.Waiting, *apply.Stalled, or an error to retry with a back-off.
	run func(ctx context.Context, p *pass) (string, error)
}

// steps are in the order in which they run. A step whose needs failed is left out, so that new pods start only on a migrated
// database with topic and index in place, and the old ones go on until then. An outage of something that was ready for this
// generation holds nothing up: a deleted Deployment or a rotated password can't wait for Elasticsearch to come back.
func (r *Reconciler) steps() []step {
	const references, migrations, events, index = v1alpha1.ConditionReferencesResolved, v1alpha1.ConditionMigrationsApplied,
		v1alpha1.ConditionTopicReady, v1alpha1.ConditionSearchIndexReady
	return []step{
		{condition: references, run: r.resolveReferences},
		{condition: migrations, needs: []string{references}, run: r.migrate},
		{condition: events, run: r.ensureTopic},
		{condition: index, needs: []string{references}, run: r.ensureIndex},
		{condition: v1alpha1.ConditionWorkloadsReady, needs: []string{references, migrations, events, index}, run: r.applyWorkloads},
	}
}

// run runs one step and sets its condition. The condition of the last step is set by observe, which sees its effect.
func (p *pass) run(ctx context.Context, s step) {
	status := &p.stack.Status
	for _, need := range s.needs {
		if p.failed[need] == nil || meta.IsStatusConditionPresentAndEqual(status.Conditions, need, metav1.ConditionUnknown) {
			continue
		}
		p.failed[s.condition] = &apply.Waiting{Reason: v1alpha1.ReasonWaiting, Message: "waiting for " + need}
		if s.condition != v1alpha1.ConditionWorkloadsReady && !p.holds(s.condition) {
			apply.SetStepResult(&status.Conditions, p.stack.Generation, s.condition, "", p.failed[s.condition])
		}
		return
	}
	text, err := s.run(ctx, p)
	if err != nil {
		p.failed[s.condition] = err
	}
	if s.condition != v1alpha1.ConditionWorkloadsReady || err != nil {
		apply.SetStepResult(&status.Conditions, p.stack.Generation, s.condition, text, err)
	}
}

// holds is true when the condition is True for this generation already.
func (p *pass) holds(condition string) bool {
	for _, c := range p.stack.Status.Conditions {
		if c.Type == condition {
			return c.Status == metav1.ConditionTrue && c.ObservedGeneration == p.stack.Generation
		}
	}
	return false
}

// ensureTopic keeps the topic and the dead-letter topic.
func (r *Reconciler) ensureTopic(ctx context.Context, p *pass) (string, error) {
	kafka := &p.stack.Spec.Kafka
	admin, err := r.ConnectTopic(ctx, kafka.Brokers)
	if err != nil {
		return "", err
	}
	// A failed close leaves nothing behind that the next connection would notice.
	defer func() { _ = admin.Close() }()

	config := maps.Clone(kafka.Topic.Config)
	if config == nil {
		config = map[string]string{}
	}
	dead := maps.Clone(config)
	if kafka.Topic.Retention != nil {
		config["retention.ms"] = strconv.FormatInt(kafka.Topic.Retention.Milliseconds(), 10)
	}
	// Dead letters are few and wait for a person, so they don't expire.
	dead["retention.ms"] = "-1"
	main := topic.Spec{Name: kafka.Topic.Name, Partitions: kafka.Topic.Partitions, ReplicationFactor: kafka.Topic.ReplicationFactor, Config: config}
	err = topic.Ensure(ctx, admin, main,
		topic.Spec{Name: main.Name + ".dlq", Partitions: 1, ReplicationFactor: main.ReplicationFactor, Config: dead})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("topic %s has %d partitions, replication factor %d", main.Name, main.Partitions, main.ReplicationFactor), nil
}

// ensureIndex keeps index template, index and alias.
func (r *Reconciler) ensureIndex(ctx context.Context, p *pass) (string, error) {
	spec := &p.stack.Spec.Elasticsearch
	credentials := p.secrets.Elasticsearch
	admin, err := r.ConnectIndex(ctx, template.Target{
		Addresses: spec.Addresses,
		Username:  string(credentials[workloads.ElasticUsernameKey]),
		Password:  string(credentials[workloads.ElasticPasswordKey]),
		APIKey:    string(credentials[workloads.ElasticAPIKeyKey]),
	})
	if err != nil {
		return "", err
	}
	defer admin.Close()
	params := elastic.Params{Shards: int(spec.Index.Shards), RefreshInterval: time.Second}
	if spec.Index.Replicas != nil {
		params.Replicas = int(*spec.Index.Replicas)
	}
	if spec.Index.RefreshInterval != nil {
		params.RefreshInterval = spec.Index.RefreshInterval.Duration
	}
	return template.Ensure(ctx, admin, spec.Index.Alias, params)
}

// applyWorkloads applies what runs the roles. observe says whether they run. A role that can't be applied holds no other up.
func (r *Reconciler) applyWorkloads(ctx context.Context, p *pass) (string, error) {
	generations := map[workloads.Role]int64{}
	var failures []error
	for _, role := range workloads.Roles() {
		generation, err := r.applyRole(ctx, p, role)
		if err != nil {
			failures = append(failures, err)
		}
		generations[role] = generation
	}
	if len(failures) > 0 {
		return "", errors.Join(failures...)
	}
	p.applied = generations
	return "", nil
}

// applyRole returns the generation of the role's Deployment.
func (r *Reconciler) applyRole(ctx context.Context, p *pass, role workloads.Role) (int64, error) {
	name := metav1.ObjectMeta{Namespace: p.stack.Namespace, Name: workloads.Name(p.stack, role)}
	if _, err := r.applier.Apply(ctx, p.stack, workloads.ServiceAccount(p.stack, role), &corev1.ServiceAccount{ObjectMeta: name}); err != nil {
		return 0, err
	}
	if _, err := r.applier.Apply(ctx, p.stack, workloads.Service(p.stack, role), &corev1.Service{ObjectMeta: name}); err != nil {
		return 0, err
	}
	want, err := workloads.Deployment(p.stack, role, p.secrets)
	if err != nil {
		return 0, err
	}
	return r.applier.Apply(ctx, p.stack, want, &appsv1.Deployment{ObjectMeta: name})
}
