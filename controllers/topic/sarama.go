package topic

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

const (
	requestTimeout = 4 * time.Second
	retryLost      = 5 * time.Second
	retryRefused   = 15 * time.Second
)

// saramaAdmin is an Admin over one connection, made for one reconciliation: idle connections of the long-lived client
// break unnoticed.
type saramaAdmin struct {
	admin   sarama.ClusterAdmin
	brokers []string
}

var _ Admin = (*saramaAdmin)(nil)

// ConnectSarama is Connect over sarama. Sarama's own error for unreachable brokers names neither address nor cause, so the
// addresses are dialled first, all at once; those that answer are used.
func ConnectSarama(ctx context.Context, target Target) (Admin, error) {
	brokers := target.Brokers
	reachable, err := dial(ctx, brokers)
	if err != nil {
		return nil, err
	}
	cfg := sarama.NewConfig()
	cfg.ClientID = "atlas-operator"
	cfg.Version = sarama.V2_8_0_0
	deadline := time.Now().Add(sessionTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	cfg.Net.Proxy.Enable = true
	cfg.Net.Proxy.Dialer = sessionDialer{deadline: deadline}
	cfg.Net.ReadTimeout = requestTimeout
	cfg.Net.WriteTimeout = requestTimeout
	cfg.Admin.Timeout = requestTimeout
	cfg.Admin.Retry.Max = 1
	cfg.Metadata.Retry.Max = 0 // every broker is asked once; the next pass asks again
	cfg.Metadata.RefreshFrequency = 0
	cfg.Metadata.Full = false // there may be thousands of topics of others
	cfg.Metadata.AllowAutoTopicCreation = false
	if err := target.Security.Apply(cfg); err != nil { //nolint:contextcheck // tokens are asked for as long as the connection is used
		return nil, &apply.Stalled{Reason: v1alpha1.ReasonSecretInvalid, Message: fmt.Sprintf("spec.kafka: %v", err)}
	}
	raw, err := sarama.NewClient(reachable, cfg)
	if err != nil {
		return nil, unreached(target, err)
	}
	admin, err := sarama.NewClusterAdminFromClient(&brokersClient{Client: raw})
	if err != nil {
		_ = raw.Close()
		return nil, unreached(target, err)
	}
	return &saramaAdmin{admin: admin, brokers: brokers}, nil
}

// unreached is classify for the beginning of a session.
func unreached(target Target, err error) error {
	if refusal := refusedLogin(target, err); refusal != nil {
		return refusal
	}
	if code := sarama.KError(0); errors.As(err, &code) {
		return classify("reach Kafka", target.Brokers, err)
	}
	return lostAt(target.Brokers, failedToConnect(err, &target.Security))
}

// brokersClient finds the brokers without asking about a topic: sarama finds them by asking about all topics, or about those that it was asked about before.
type brokersClient struct{ sarama.Client }

// Controller returns the cluster's controller, looked for once.
func (c *brokersClient) Controller() (*sarama.Broker, error) {
	if controller, err := c.Client.Controller(); err == nil {
		return controller, nil
	}
	return c.RefreshController()
}

// RefreshController looks for the controller again.
func (c *brokersClient) RefreshController() (*sarama.Broker, error) {
	if err := c.RefreshMetadata(noTopic); err != nil && !aboutTopic(err) {
		return nil, err
	}
	controller, err := c.Client.Controller()
	if aboutTopic(err) || errors.Is(err, sarama.ErrNoTopicsToUpdateMetadata) {
		return nil, sarama.ErrControllerNotAvailable
	}
	return controller, err
}

// aboutTopic is true when the brokers answered, and refused the topic only.
func aboutTopic(err error) bool {
	return errors.Is(err, sarama.ErrInvalidTopic) || errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrUnknownTopicOrPartition)
}

func lost(message string) error {
	return &apply.Waiting{Reason: v1alpha1.ReasonUnreachable, Message: message, After: retryLost, Lost: true}
}

// lostAt does not say what was being done: another stack that asks the same brokers is told it too.
func lostAt(brokers []string, why string) error {
	return lost(fmt.Sprintf("could not reach Kafka at %s: %s", strings.Join(brokers, ", "), why))
}

func (a *saramaAdmin) Close() error {
	if err := a.admin.Close(); err != nil {
		return fmt.Errorf("close the Kafka connection: %w", err)
	}
	return nil
}

func (a *saramaAdmin) Describe(ctx context.Context, name string) (*State, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("describe topic %s: %w", name, err)
	}
	topics, err := a.admin.DescribeTopics([]string{name})
	if err != nil {
		return nil, classify("describe topic "+name, a.brokers, err)
	}
	if len(topics) != 1 || errors.Is(topics[0].Err, sarama.ErrUnknownTopicOrPartition) {
		return nil, nil
	}
	found := topics[0]
	// LeaderNotAvailable is normal just after the creation, and the partitions are complete then.
	if found.Err != sarama.ErrNoError && !errors.Is(found.Err, sarama.ErrLeaderNotAvailable) {
		return nil, classify("describe topic "+name, a.brokers, found.Err)
	}
	if len(found.Partitions) == 0 {
		return nil, &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: "topic " + name + " is being created", After: settleAfter}
	}
	state := &State{
		Partitions:        int32(len(found.Partitions)), //nolint:gosec // Kafka counts partitions in 32 bits.
		ReplicationFactor: int16(len(found.Partitions[0].Replicas)),
		Config:            map[string]string{},
	}
	results, err := a.admin.DescribeConfigs([]*sarama.ConfigResource{{Type: sarama.TopicResource, Name: name}}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, classify("describe the settings of topic "+name, a.brokers, err)
	}
	for _, result := range results {
		if result.ErrorCode != sarama.ErrNoError {
			return nil, classify("describe the settings of topic "+name, a.brokers, result.ErrorCode)
		}
		for _, entry := range result.Configs {
			state.Config[entry.Name] = entry.Value
		}
	}
	return state, nil
}

func (a *saramaAdmin) Create(_ context.Context, spec Spec) error {
	detail := &sarama.TopicDetail{NumPartitions: spec.Partitions, ReplicationFactor: spec.ReplicationFactor, ConfigEntries: map[string]*string{}}
	for key, value := range spec.Config {
		detail.ConfigEntries[key] = &value
	}
	err := a.admin.CreateTopic(spec.Name, detail, false)
	if errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return nil // someone was faster; the next look compares
	}
	return classify("create topic "+spec.Name, a.brokers, err)
}

func (a *saramaAdmin) AddPartitions(_ context.Context, name string, total int32) error {
	return classify(fmt.Sprintf("raise topic %s to %d partitions", name, total), a.brokers, a.admin.CreatePartitions(name, total, nil, false))
}

func (a *saramaAdmin) SetConfig(_ context.Context, name string, config map[string]string) error {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for key, value := range config {
		entries[key] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	return classify("set the settings of topic "+name, a.brokers, a.admin.IncrementalAlterConfig(sarama.TopicResource, name, entries, false))
}

// classify turns sarama's errors into the typed ones. What Kafka answered is told apart from not having reached it.
func classify(doing string, brokers []string, err error) error {
	if err == nil {
		return nil
	}
	var code sarama.KError
	if !errors.As(err, &code) {
		return lostAt(brokers, reason(err))
	}
	message := fmt.Sprintf("could not %s: %v", doing, err)
	switch code {
	case sarama.ErrInvalidConfig, sarama.ErrPolicyViolation, sarama.ErrInvalidTopic, sarama.ErrInvalidRequest:
		return &apply.Stalled{Reason: v1alpha1.ReasonRefused, Message: message + ": correct spec.kafka.topic"}
	case sarama.ErrInvalidReplicationFactor:
		message += ": lower spec.kafka.topic.replicationFactor or add brokers"
	case sarama.ErrUnsupportedSASLMechanism:
		message += ": correct spec.kafka.sasl.mechanism"
	case sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed:
		message += ": grant the operator's Kafka user Create, Describe, Alter, DescribeConfigs and AlterConfigs on this topic"
	}
	return &apply.Waiting{Reason: v1alpha1.ReasonRefused, Message: message, After: retryRefused}
}
