package topic

import (
	"context"
	"fmt"
	"time"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/internal/kafka"
)

// Admin is the part of a Kafka cluster's administration that this package uses. Its errors are *apply.Waiting or
// *apply.Stalled where the caller can name the cause.
type Admin interface {
	// Describe returns nil when there is no such topic.
	Describe(ctx context.Context, name string) (*State, error)
	Create(ctx context.Context, spec Spec) error
	// AddPartitions raises the number of partitions to total.
	AddPartitions(ctx context.Context, name string, total int32) error
	SetConfig(ctx context.Context, name string, config map[string]string) error
	// ClusterID is the identity that the Kafka gives itself; empty for one that does not.
	ClusterID(ctx context.Context) (string, error)
	// Delete deletes a topic, which may be gone already.
	Delete(ctx context.Context, name string) error
	// DeleteGroup deletes a consumer group, which may be gone already.
	DeleteGroup(ctx context.Context, name string) error
	Close() error
}

// Target says where Kafka is and how it is reached.
type Target struct {
	Brokers  []string
	Security kafka.Security
}

// Connect opens an Admin on one of the brokers.
type Connect func(ctx context.Context, target Target) (Admin, error)

// settleAfter is when to look again after a change: Kafka answers before every broker knows.
const settleAfter = time.Second

// Ensure brings each topic to its spec, and returns *apply.Waiting until Kafka shows it.
func Ensure(ctx context.Context, admin Admin, specs ...Spec) error {
	var first error
	for _, spec := range specs {
		err := ensure(ctx, admin, spec)
		_, stalled := apply.AsStalled(err)
		if _, before := apply.AsStalled(first); first == nil || (stalled && !before) {
			first = err // what only a person can put right is said before what settles by itself
		}
		if waiting, ok := apply.AsWaiting(err); err != nil && !stalled && (!ok || waiting.Lost) {
			return err // the next one would end in the same way
		}
	}
	return first
}

// ensure brings one topic to its spec. That one can't be is no reason to leave another as it is.
func ensure(ctx context.Context, admin Admin, spec Spec) error {
	have, err := admin.Describe(ctx, spec.Name)
	if err != nil {
		return err
	}
	change, err := Plan(spec, have)
	if err != nil || change.Empty() {
		return err
	}
	if err := perform(ctx, admin, spec, change); err != nil {
		return err
	}
	return &apply.Waiting{
		Reason: v1alpha1.ReasonProgressing, After: settleAfter,
		Message: fmt.Sprintf("topic %s was changed; waiting until the brokers show it", spec.Name),
	}
}

func perform(ctx context.Context, admin Admin, spec Spec, change Change) error {
	if change.Create {
		return admin.Create(ctx, spec)
	}
	if change.Partitions > 0 {
		if err := admin.AddPartitions(ctx, spec.Name, change.Partitions); err != nil {
			return err
		}
	}
	if len(change.Config) > 0 {
		return admin.SetConfig(ctx, spec.Name, change.Config)
	}
	return nil
}
