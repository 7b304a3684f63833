package indexer_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/indexing/indexingtest"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// TestEventsOfALaterReleaseAreReadAsFarAsTheyAreKnown gives the indexer unknown fields, event types and entity types: it does what it knows and passes
// over the rest. A later envelope, whose fields may mean something else, is a dead letter.
func TestEventsOfALaterReleaseAreReadAsFarAsTheyAreKnown(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	item := b.Item(t, b.Collection(t), "one", "")
	known := itemEvent(t, event.ItemCreated, item, 1)
	var later map[string]any
	require.NoError(t, json.Unmarshal(known, &later))
	later["new_field"], later["data"].(map[string]any)["new_field"], later["entity"].(map[string]any)["new_field"] = 1, []int{1}, "x"
	withFields, err := json.Marshal(later)
	require.NoError(t, err)
	unknownType := encode(t, "ItemFrobnicated", event.Entity{Type: event.EntityItem, ID: item}, struct{ A []int }{[]int{1}})
	unknownEntity := encode(t, "CommentCreated", event.Entity{Type: "Comment", ID: uuid.New()}, struct{}{})
	version2 := []byte(strings.Replace(string(known), `"version":1`, `"version":2`, 1))
	b.send(t, item, unknownType, unknownEntity, version2, withFields)
	kafkatest.Start(t, b.service.Run)
	b.eventually(t, func() bool { return indexingtest.Get(t, b.es, b.alias, item).Found })
	letters := kafkatest.Read(t, b.brokers, kafka.DeadLetterTopic(b.topic), 1)
	require.Equal(t, version2, letters[0].Value)
	require.Contains(t, kafkatest.Header(letters[0], kafka.HeaderDLQReason), "version 2 is not supported, want 1")
	b.eventually(t, func() bool { return kafkatest.Committed(t, b.brokers, b.topic+"-indexer", b.topic, 0) == 4 })
	require.Len(t, kafkatest.Read(t, b.brokers, kafka.DeadLetterTopic(b.topic), 1), 1)
}
