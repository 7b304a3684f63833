package topic

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// Same tells whether the topics are as their specs ask, without touching anything. A difference that Ensure could not put right is an error.
func Same(ctx context.Context, admin Admin, specs ...Spec) (bool, error) {
	same := true
	for _, spec := range specs {
		have, err := admin.Describe(ctx, spec.Name)
		if err != nil {
			return false, err
		}
		change, err := Plan(spec, have)
		if err != nil {
			return false, err
		}
		same = same && change.Empty()
	}
	return same, nil
}

// Drop deletes consumer groups and topics, and returns *apply.Waiting until Kafka shows no such topic any more.
func Drop(ctx context.Context, admin Admin, groups, topics []string) error {
	for _, group := range groups {
		if err := admin.DeleteGroup(ctx, group); err != nil {
			return err
		}
	}
	var settling error
	for _, name := range topics {
		have, err := admin.Describe(ctx, name)
		if err != nil {
			return err
		}
		if have == nil {
			continue
		}
		if err := admin.Delete(ctx, name); err != nil {
			return err
		}
		settling = &apply.Waiting{
			Reason: v1alpha1.ReasonProgressing, After: settleAfter,
			Message: fmt.Sprintf("topic %s was deleted; waiting until the brokers show it", name),
		}
	}
	return settling
}

// ClusterID asks the controller about no topic at all, which needs no permission.
func (a *saramaAdmin) ClusterID(ctx context.Context) (string, error) {
	const doing = "ask for the identity of Kafka"
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	controller, err := a.admin.Controller()
	if err != nil {
		return "", classify(doing, a.brokers, err)
	}
	answer, err := controller.GetMetadata(&sarama.MetadataRequest{Version: metadataVersion, Topics: []string{noTopic}})
	if err != nil {
		return "", classify(doing, a.brokers, err)
	}
	if answer.ClusterID == nil {
		return "", nil
	}
	return *answer.ClusterID, nil
}

const (
	// metadataVersion is one that every Kafka since 2.1 answers, with its identity, and that creates no topic.
	metadataVersion = 7
	// noTopic is a name that no topic can have: asked about none, sarama would ask about all.
	noTopic = "."
)

func (a *saramaAdmin) Delete(_ context.Context, name string) error {
	err := a.admin.DeleteTopic(name)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return nil
	}
	return classifyDrop("delete topic "+name, a.brokers, err)
}

func (a *saramaAdmin) DeleteGroup(_ context.Context, name string) error {
	err := a.admin.DeleteConsumerGroup(name)
	if errors.Is(err, sarama.ErrGroupIDNotFound) {
		return nil
	}
	return classifyDrop("delete consumer group "+name, a.brokers, err)
}

// classifyDrop names the permissions that only deleting needs.
func classifyDrop(doing string, brokers []string, err error) error {
	switch {
	case errors.Is(err, sarama.ErrTopicAuthorizationFailed), errors.Is(err, sarama.ErrGroupAuthorizationFailed):
		return &apply.Waiting{Reason: v1alpha1.ReasonRefused, After: retryRefused, Message: fmt.Sprintf(
			"could not %s: %v: grant the operator's Kafka user Delete on the topics and on the consumer groups", doing, err)}
	case errors.Is(err, sarama.ErrTopicDeletionDisabled):
		return &apply.Waiting{Reason: v1alpha1.ReasonRefused, After: retryRefused, Message: fmt.Sprintf(
			"could not %s: the brokers have delete.topic.enable=false", doing)}
	case errors.Is(err, sarama.ErrNonEmptyGroup):
		return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, After: settleAfter, Message: fmt.Sprintf("could not %s yet: it still has members", doing)}
	}
	return classify(doing, brokers, err)
}
