package topic_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	want := topic.Spec{Name: "events", Partitions: 6, ReplicationFactor: 3, Config: map[string]string{"retention.ms": "1000", "cleanup.policy": "delete"}}
	state := func(partitions int32, replicas int16, config map[string]string) *topic.State {
		return &topic.State{Partitions: partitions, ReplicationFactor: replicas, Config: config}
	}
	full := map[string]string{"retention.ms": "1000", "cleanup.policy": "delete", "segment.ms": "7"}
	for _, tc := range []struct {
		name    string
		have    *topic.State
		change  topic.Change
		stalled string
	}{
		{name: "absent", change: topic.Change{Create: true}},
		{name: "as asked", have: state(6, 3, full)},
		{name: "too few partitions", have: state(2, 3, full), change: topic.Change{Partitions: 6}},
		{name: "too many partitions", have: state(8, 3, full), stalled: "set partitions to 8"},
		{name: "other replication factor", have: state(6, 1, full), stalled: "set replicationFactor to 1"},
		{
			name:   "setting drifted",
			have:   state(6, 3, map[string]string{"retention.ms": "9", "cleanup.policy": "delete"}),
			change: topic.Change{Config: map[string]string{"retention.ms": "1000"}},
		},
		{
			name:   "partitions and settings",
			have:   state(1, 3, nil),
			change: topic.Change{Partitions: 6, Config: want.Config},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			change, err := topic.Plan(want, tc.have)
			if tc.stalled != "" {
				stalled, ok := apply.AsStalled(err)
				require.True(t, ok, "%v", err)
				require.Contains(t, stalled.Message, tc.stalled)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.change, change)
		})
	}
}
