package topic

import (
	"context"
	"fmt"
	"time"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
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
	Close() error
}

// Connect opens an Admin on one of the brokers.
type Connect func(ctx context.Context, brokers []string) (Admin, error)

// settleAfter is when to look again after a change: Kafka answers before every broker knows.
const settleAfter = time.Second

// Ensure brings each topic to its spec, and returns *apply.Waiting until Kafka shows it.
func Ensure(ctx context.Context, admin Admin, specs ...Spec) error {
	var settling error
	for _, spec := range specs {
		have, err := admin.Describe(ctx, spec.Name)
		if err != nil {
			return err
		}
		change, err := Plan(spec, have)
		if err != nil {
			return err
		}
		if change.Empty() {
			continue
		}
		if err := perform(ctx, admin, spec, change); err != nil {
			return err
		}
		settling = &apply.Waiting{
			Reason: v1alpha1.ReasonProgressing, After: settleAfter,
			Message: fmt.Sprintf("topic %s was changed; waiting until the brokers show it", spec.Name),
		}
	}
	return settling
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
