package atlasstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/kafka"
)

// step is one part of a reconciliation. It does what it can at once and never waits.
type step struct {
	// condition is what the step's result is written to.
	condition string
	// needs are the conditions of the steps that must have succeeded in this pass.
	needs []string
	// run returns nil with what to say, *apply.Waiting, *apply.Stalled, or an error to retry with a back-off.
	run func(ctx context.Context, p *pass) (string, error)
	// meanwhile is run instead when the step is left out. It returns what to say beside that; nil for nothing to do.
	meanwhile func(ctx context.Context, p *pass) (string, error)
}

// steps are in the order in which they run. A step whose needs failed is left out, so that new pods start only on a migrated
// database with topic and index in place, and the old ones go on until then. An outage of something that was ready for this
// generation holds nothing up: a deleted Deployment or a rotated password can't wait for Elasticsearch to come back. While the stack hibernates, only the
// Deployments are kept: database, Kafka and Elasticsearch may be away too.
func (r *Reconciler) steps(p *pass) []step {
	const references, migrations, events, index = v1alpha1.ConditionReferencesResolved, v1alpha1.ConditionMigrationsApplied,
		v1alpha1.ConditionTopicReady, v1alpha1.ConditionSearchIndexReady
	// It needs no other step, and none needs it: network policies are there before the first pod, and no pod waits for a load balancer.
	exposure := step{condition: v1alpha1.ConditionExposureReady, run: r.expose}
	if p.stack.Spec.Hibernate {
		return []step{
			{condition: references, run: r.resolveReferences},
			{condition: v1alpha1.ConditionWorkloadsReady, run: r.hibernate},
			exposure,
		}
	}
	var kafka []string // what the way to Kafka needs
	if p.stack.Spec.Kafka.TLS != nil || p.stack.Spec.Kafka.SASL != nil {
		kafka = []string{references}
	}
	var claimed []string // what is another stack's, so that no pod of this one may start
	for _, condition := range []string{events, index} {
		if p.failed[condition] != nil {
			claimed = append(claimed, condition)
		}
	}
	return []step{
		{condition: references, run: r.resolveReferences},
		{condition: migrations, needs: append(claimed, references), run: r.migrate},
		{condition: events, needs: kafka, run: r.ensureTopic},
		{condition: index, needs: []string{references}, run: r.ensureIndex},
		{
			condition: v1alpha1.ConditionWorkloadsReady, needs: []string{references, migrations, events, index},
			run: r.applyWorkloads, meanwhile: r.keepWorkloads,
		},
		exposure,
	}
}

// run runs one step and sets its condition. The condition of the last step is set by observe, which sees its effect.
func (p *pass) run(ctx context.Context, s step) {
	status := &p.stack.Status
	if p.failed[s.condition] != nil {
		return // it was settled before the steps began
	}
	for _, need := range s.needs {
		if p.failed[need] == nil || meta.IsStatusConditionPresentAndEqual(status.Conditions, need, metav1.ConditionUnknown) {
			continue
		}
		p.leaveOut(ctx, s, need)
		return
	}
	text, err := s.run(ctx, p)
	if errors.As(err, &busy{}) {
		p.leave(s.condition)
		return
	}
	if _, serves := apply.AsOutdated(err); err != nil && !serves {
		p.failed[s.condition] = err
	}
	if s.condition != v1alpha1.ConditionWorkloadsReady || err != nil {
		apply.SetStepResult(&status.Conditions, p.stack.Generation, s.condition, text, err)
	}
}

// leaveOut leaves a step out because another one that it needs failed. The condition of the last step is set by observe then too, unless something went wrong.
func (p *pass) leaveOut(ctx context.Context, s step, need string) {
	waiting := &apply.Waiting{Reason: v1alpha1.ReasonWaiting, Message: "waiting for " + need}
	p.failed[s.condition] = waiting
	report := s.condition != v1alpha1.ConditionWorkloadsReady && !p.holds(s.condition)
	if s.meanwhile != nil {
		text, err := s.meanwhile(ctx, p)
		waiting.Message += text
		if err != nil {
			p.failed[s.condition], report = err, true
		}
	}
	if report {
		apply.SetStepResult(&p.stack.Status.Conditions, p.stack.Generation, s.condition, "", p.failed[s.condition])
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
func (r *Reconciler) ensureTopic(ctx context.Context, p *pass) (text string, err error) {
	target := kafkaTarget(p)
	err = r.gates.ask(kafkaServer(target), digest(target), func() error {
		text, err = r.keepTopic(ctx, p, target)
		return err
	})
	return text, err
}

func (r *Reconciler) keepTopic(ctx context.Context, p *pass, target topic.Target) (string, error) {
	spec := &p.stack.Spec.Kafka
	admin, err := r.ConnectTopic(ctx, target)
	if err != nil {
		return "", err
	}
	// A failed close leaves nothing behind that the next connection would notice.
	defer func() { _ = admin.Close() }()

	main, dead := topics(spec)
	if err := r.ownTopic(ctx, p, admin, main, dead); err != nil {
		return "", err
	}
	if err := topic.Ensure(ctx, admin, main, dead); err != nil {
		return "", err
	}
	return fmt.Sprintf("topic %s has %d partitions, replication factor %d", main.Name, main.Partitions, main.ReplicationFactor), nil
}

// topics are the topic of domain events and that of dead letters.
func topics(spec *v1alpha1.KafkaSpec) (main, dead topic.Spec) {
	const retention = "retention.ms"
	main = topic.Spec{
		Name: spec.Topic.Name, Partitions: spec.Topic.Partitions, ReplicationFactor: spec.Topic.ReplicationFactor, Config: map[string]string{},
	}
	maps.Copy(main.Config, spec.Topic.Config)
	if spec.Topic.Retention != nil {
		main.Config[retention] = strconv.FormatInt(spec.Topic.Retention.Milliseconds(), 10)
	}
	dead = topic.Spec{
		Name: deadLetters(main.Name), Partitions: max(spec.DeadLetterTopic.Partitions, 1), ReplicationFactor: main.ReplicationFactor, Config: map[string]string{},
	}
	maps.Copy(dead.Config, spec.Topic.Config)
	// Dead letters are few and wait for a person, so they don't expire.
	dead.Config[retention] = "-1"
	maps.Copy(dead.Config, spec.DeadLetterTopic.Config)
	if spec.DeadLetterTopic.Retention != nil {
		dead.Config[retention] = strconv.FormatInt(spec.DeadLetterTopic.Retention.Milliseconds(), 10)
	}
	return main, dead
}

// kafkaTarget is where the operator itself reaches Kafka.
func kafkaTarget(p *pass) topic.Target {
	return topic.Target{Brokers: p.stack.Spec.Kafka.Brokers, Security: kafkaSecurity(p)}
}

// elasticTarget is where it reaches Elasticsearch, and as whom.
func elasticTarget(p *pass) template.Target {
	return template.Target{
		Addresses: p.stack.Spec.Elasticsearch.Addresses,
		CloudID:   p.stack.Spec.Elasticsearch.CloudID,
		CA:        p.inputs[workloads.ElasticsearchCA],
		Username:  string(p.inputs[workloads.ElasticsearchUsername]),
		Password:  string(p.inputs[workloads.ElasticsearchPassword]),
		APIKey:    string(p.inputs[workloads.ElasticsearchAPIKey]),
	}
}

// kafkaSecurity is how the operator itself reaches Kafka: as the pods do.
func kafkaSecurity(p *pass) kafka.Security {
	spec := &p.stack.Spec.Kafka
	security := kafka.Security{
		TLS: spec.TLS != nil, CA: p.inputs[workloads.KafkaCA], Certificate: p.inputs[workloads.KafkaCertificate], Key: p.inputs[workloads.KafkaKey],
	}
	if sasl := spec.SASL; sasl != nil {
		security.Mechanism = sasl.Mechanism
		security.Username, security.Password = string(p.inputs[workloads.KafkaUsername]), string(p.inputs[workloads.KafkaPassword])
		if sasl.OAuth != nil {
			security.OAuth = kafka.OAuth{
				TokenURL: sasl.OAuth.TokenURL, Scopes: sasl.OAuth.Scopes,
				ClientID: string(p.inputs[workloads.KafkaClientID]), ClientSecret: string(p.inputs[workloads.KafkaClientSecret]),
			}
		}
	}
	return security
}

// ensureIndex keeps index template, index and alias.
func (r *Reconciler) ensureIndex(ctx context.Context, p *pass) (text string, err error) {
	target := elasticTarget(p)
	err = r.gates.ask(elasticServer(target), digest(target), func() error {
		text, err = r.keepIndex(ctx, p, target)
		return err
	})
	return text, err
}

func (r *Reconciler) keepIndex(ctx context.Context, p *pass, target template.Target) (string, error) {
	spec := &p.stack.Spec.Elasticsearch
	admin, err := r.ConnectIndex(ctx, target)
	if err != nil {
		return "", err
	}
	defer admin.Close()
	params := elastic.Params{Shards: int(spec.Index.Shards), Language: spec.Index.Language, RefreshInterval: time.Second}
	if spec.Index.Replicas != nil {
		params.Replicas = int(*spec.Index.Replicas)
	}
	if spec.Index.RefreshInterval != nil {
		params.RefreshInterval = spec.Index.RefreshInterval.Duration
	}
	if err := r.ownIndex(ctx, p, admin); err != nil {
		return "", err
	}
	text, err := template.Ensure(ctx, admin, spec.Index.Alias, params)
	p.outdated, _ = apply.AsOutdated(err)
	return text, err
}

// applyWorkloads applies what runs the roles. observe says whether they run. A role that can't be applied holds no other up.
func (r *Reconciler) applyWorkloads(ctx context.Context, p *pass) (string, error) {
	p.recipe = &recipe{spec: p.stack.Spec, inputs: p.inputs}
	generations := map[workloads.Role]int64{}
	failures := []error{r.keepMigrator(ctx, p)}
	for _, role := range workloads.Roles() {
		restarted, err := r.restartStale(ctx, p, role)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		generation, err := r.applyRole(ctx, p, role)
		if err != nil {
			failures = append(failures, err)
		}
		generations[role] = max(generation, restarted)
	}
	if err := gravest(failures); err != nil {
		return "", err
	}
	p.applied, p.current = generations, true
	return "", nil
}

// ensure applies a child as the spec asks for it, or removes it where want is nil. live has the child's type and name.
func (r *Reconciler) ensure(ctx context.Context, p *pass, want runtime.ApplyConfiguration, live client.Object) error {
	if want == nil {
		_, err := r.applier.Remove(ctx, p.stack, live)
		return err
	}
	_, err := r.applier.Apply(ctx, p.stack, want, live)
	return err
}
