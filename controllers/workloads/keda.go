package workloads

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/IBM/sarama"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// dueJobs counts what the worker could begin with at once, as its own metric atlas_jobs{state="due"} does.
const dueJobs = "SELECT count(*) FROM jobs WHERE state = 'QUEUED' AND NOT held AND run_at <= now()"

// ScaledObject has KEDA scale a role. KEDA makes the HorizontalPodAutoscaler keda-hpa-<name> for it.
func ScaledObject(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) (*unstructured.Unstructured, error) {
	scaling := Component(stack, role).Autoscaling
	trigger := jobsTrigger(stack, scaling.Lag.Target)
	if consumesKafka(role) {
		trigger = kafkaTrigger(stack, role, scaling.Lag.Target)
	}
	if len(triggerReferences(stack, role, inputs)) > 0 {
		trigger["authenticationRef"] = map[string]any{"name": Name(stack, role)}
	}
	triggers := []any{trigger}
	if target := cpuTarget(scaling); target > 0 {
		triggers = append(triggers, map[string]any{
			"type": "cpu", "metricType": "Utilization", "metadata": map[string]any{"value": strconv.Itoa(int(target))},
		})
	}
	spec := map[string]any{
		"scaleTargetRef":  map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": Name(stack, role)},
		"minReplicaCount": int64(LeastReplicas(stack, role)),
		"maxReplicaCount": int64(scaling.MaxReplicas),
		"triggers":        triggers,
	}
	if scaling.Behavior != nil {
		behavior := map[string]any{}
		if err := convert(scaling.Behavior, &behavior); err != nil {
			return nil, fmt.Errorf("convert %s.autoscaling.behavior: %w", role, err)
		}
		spec["advanced"] = map[string]any{"horizontalPodAutoscalerConfig": map[string]any{"behavior": behavior}}
	}
	object := optional(stack, ScaledObjectKind(), Name(stack, role), Labels(stack, role))
	object.Object["spec"] = spec
	return object, nil
}

func kafkaTrigger(stack *v1alpha1.AtlasStack, role Role, target int64) map[string]any {
	kafka := &stack.Spec.Kafka
	metadata := map[string]any{
		"bootstrapServers": strings.Join(kafka.Brokers, ","),
		"topic":            kafka.Topic.Name,
		"consumerGroup":    consumerGroup(stack, role),
		"lagThreshold":     strconv.FormatInt(target, 10),
		// Where a group has no place yet, the role begins with the oldest event.
		"offsetResetPolicy": "earliest",
	}
	if kafka.TLS != nil {
		metadata["tls"] = "enable"
	}
	if kafka.SASL != nil {
		metadata["sasl"] = kedaMechanism(kafka.SASL.Mechanism)
	}
	return map[string]any{"type": "kafka", "metricType": "AverageValue", "metadata": metadata}
}

func kedaMechanism(mechanism string) string {
	switch mechanism {
	case sarama.SASLTypeSCRAMSHA256:
		return "scram_sha256"
	case sarama.SASLTypeSCRAMSHA512:
		return "scram_sha512"
	case sarama.SASLTypeOAuth:
		return "oauthbearer"
	}
	return "plaintext" // KEDA's word for the mechanism PLAIN, with or without TLS
}

func jobsTrigger(stack *v1alpha1.AtlasStack, target int64) map[string]any {
	return map[string]any{"type": "postgresql", "metricType": "AverageValue", "metadata": map[string]any{
		"query":            dueJobs,
		"targetQueryValue": strconv.FormatInt(target, 10),
		// The connection is the URI of the TriggerAuthentication. Some releases of KEDA tell their pools of connections apart by this alone, and two
		// stacks would be taken for one.
		"dbName": stack.Namespace + "/" + stack.Name,
	}}
}

// kedaParameter is what KEDA's triggers call an input, "" for those that they have no use for.
func kedaParameter(input Input, role Role) string {
	if !consumesKafka(role) {
		if input == DatabaseURL {
			return "connection"
		}
		return ""
	}
	switch input {
	case KafkaCA:
		return "ca"
	case KafkaCertificate:
		return "cert"
	case KafkaKey:
		return "key"
	case KafkaUsername, KafkaClientID:
		return "username"
	case KafkaPassword, KafkaClientSecret:
		return "password"
	default:
		return ""
	}
}

func triggerReferences(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) (refs []Reference) {
	for _, ref := range usedBy(stack, role, inputs) {
		if kedaParameter(ref.Input, role) != "" {
			refs = append(refs, ref)
		}
	}
	return refs
}

// TriggerAuthentication names the Secrets that KEDA logs in with: those that the role itself does. It is nil when KEDA needs none.
func TriggerAuthentication(stack *v1alpha1.AtlasStack, role Role, inputs Inputs) *unstructured.Unstructured {
	refs := triggerReferences(stack, role, inputs)
	if len(refs) == 0 {
		return nil
	}
	spec := map[string]any{}
	add := func(field string, entry map[string]any) {
		entries, _ := spec[field].([]any)
		spec[field] = append(entries, entry)
	}
	for _, ref := range refs {
		field := "secretTargetRef"
		if ref.ConfigMap {
			field = "configMapTargetRef"
		}
		add(field, map[string]any{"parameter": kedaParameter(ref.Input, role), "name": ref.Name, "key": ref.Key})
	}
	if sasl := stack.Spec.Kafka.SASL; sasl != nil && sasl.OAuth != nil && consumesKafka(role) {
		// KEDA takes these two from here alone, and here a plain value can only come from a variable of the role.
		add("env", map[string]any{"parameter": "oauthTokenEndpointUri", "name": "KAFKA_OAUTH_TOKEN_URL", "containerName": ContainerName})
		if len(sasl.OAuth.Scopes) > 0 {
			add("env", map[string]any{"parameter": "scopes", "name": "KAFKA_OAUTH_SCOPES", "containerName": ContainerName})
		}
	}
	object := optional(stack, TriggerAuthenticationKind(), Name(stack, role), Labels(stack, role))
	object.Object["spec"] = spec
	return object
}
