// Package topic keeps one Kafka topic as an AtlasStack asks for it: it observes the topic, plans the difference without
// touching anything, and applies it. A topic never loses a partition, and is deleted by Drop only.
package topic

import (
	"fmt"
	"maps"
	"slices"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
)

// Spec is the topic asked for.
type Spec struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	// Config are the settings to keep; others are left as they are.
	Config map[string]string
}

// State is the topic as Kafka has it.
type State struct {
	Partitions        int32
	ReplicationFactor int16
	// Config are all settings in force, defaults included.
	Config map[string]string
}

// Change is what turns a State into a Spec. The zero value changes nothing.
type Change struct {
	// Create is true when there is no topic.
	Create bool
	// Partitions is the new number of partitions, 0 to leave it.
	Partitions int32
	// Config are the settings to set.
	Config map[string]string
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return !c.Create && c.Partitions == 0 && len(c.Config) == 0 }

// Plan compares the topic asked for with the one that is there, nil for none. A difference that Kafka can't or must not
// undo is an *apply.Stalled that names the way out.
func Plan(want Spec, have *State) (Change, error) {
	if have == nil {
		return Change{Create: true}, nil
	}
	if have.Partitions > want.Partitions {
		return Change{}, &apply.Stalled{Reason: v1alpha1.ReasonForbiddenChange, Message: fmt.Sprintf(
			"topic %s has %d partitions, more than the %d asked for, and Kafka can't remove partitions: set partitions to %d",
			want.Name, have.Partitions, want.Partitions, have.Partitions)}
	}
	if have.ReplicationFactor != want.ReplicationFactor {
		return Change{}, &apply.Stalled{Reason: v1alpha1.ReasonForbiddenChange, Message: fmt.Sprintf(
			"topic %s has replication factor %d, not %d: set replicationFactor to %d, or move the replicas with kafka-reassign-partitions",
			want.Name, have.ReplicationFactor, want.ReplicationFactor, have.ReplicationFactor)}
	}
	var change Change
	if have.Partitions < want.Partitions {
		change.Partitions = want.Partitions
	}
	for _, key := range slices.Sorted(maps.Keys(want.Config)) {
		if value, set := have.Config[key]; !set || value != want.Config[key] {
			if change.Config == nil {
				change.Config = map[string]string{}
			}
			change.Config[key] = want.Config[key]
		}
	}
	return change, nil
}
