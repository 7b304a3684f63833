package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/testenv"
	"github.com/atlas-platform/atlas/services/demo"
)

const topic = "atlas.domain-events.v1"

// TestPlatformKeepsItsContract follows real documents through the whole platform: every write of the demo is one valid envelope in Kafka,
// audit_events holds exactly those events, Elasticsearch holds exactly the live items; and it stays so when every pod is deleted.
func TestPlatformKeepsItsContract(t *testing.T) {
	e := setup(t)
	runDemo(t, e)
	requireAgreement(t, e)

	before := podUIDs(t, e)
	require.NoError(t, e.cluster.DeleteAllOf(t.Context(), &corev1.Pod{}, ctrlclient.InNamespace(stackKey.Namespace)))
	eventually(t, 2*time.Minute, "every deleted pod is gone", func(context.Context) error {
		for uid, name := range podUIDs(t, e) {
			if before[uid] == name {
				return fmt.Errorf("%s is still there", name)
			}
		}
		return nil
	})
	eventually(t, 2*time.Minute, "the API answers again after every pod was deleted", func(ctx context.Context) error {
		answer, err := e.client(t, "").LoginWithResponse(ctx, loginOfNobody)
		if err != nil {
			return err
		}
		if answer.StatusCode() != 401 {
			return fmt.Errorf("HTTP %d", answer.StatusCode())
		}
		return nil
	})
	eventually(t, 2*time.Minute, "the stack is Ready again", func(ctx context.Context) error { return stackReady(ctx, e, stackKey) })
	runDemo(t, e) // the new pods take writes and search finds them
	requireAgreement(t, e)
}

func podUIDs(t *testing.T, e *env) map[types.UID]string {
	t.Helper()
	pods := &corev1.PodList{}
	require.NoError(t, e.cluster.List(t.Context(), pods, ctrlclient.InNamespace(stackKey.Namespace)))
	uids := map[types.UID]string{}
	for _, pod := range pods.Items {
		uids[pod.UID] = pod.Name
	}
	return uids
}

func runDemo(t *testing.T, e *env) {
	t.Helper()
	var out bytes.Buffer
	err := demo.Run(t.Context(), demo.Options{
		URL: e.apiURL, Documents: 300, Concurrency: 4, CredentialsFile: filepath.Join(t.TempDir(), "demo.env"), Out: &out,
	})
	require.NoError(t, err, out.String())
	t.Log(out.String())
}

// requireAgreement compares PostgreSQL, Kafka, the audit trail and Elasticsearch, once the consumers have caught up.
func requireAgreement(t *testing.T, e *env) {
	t.Helper()
	eventually(t, time.Minute, "the outbox is empty", func(context.Context) error {
		if waiting := eventIDs(t, e, "SELECT event_id FROM outbox WHERE published_at IS NULL"); len(waiting) > 0 {
			return fmt.Errorf("%d events wait", len(waiting))
		}
		return nil
	})
	published, versions := consumeTopic(t)
	require.NotEmpty(t, published)
	requireGrowingVersions(t, versions)
	requireEveryVersion(t, e, versions)

	eventually(t, time.Minute, "the audit trail has every event", func(context.Context) error {
		audited := eventIDs(t, e, "SELECT event_id FROM audit_events")
		return sameIDs(published, audited)
	})
	eventually(t, time.Minute, "Elasticsearch has exactly the live items", func(ctx context.Context) error {
		live := eventIDs(t, e, `SELECT i.id FROM items i JOIN collections c ON c.id = i.collection_id
			WHERE i.deleted_at IS NULL AND c.deleted_at IS NULL`)
		return sameIDs(live, indexedIDs(ctx, t))
	})
}

func eventIDs(t *testing.T, e *env, query string) map[uuid.UUID]bool {
	t.Helper()
	rows, err := e.db.Query(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	ids := map[uuid.UUID]bool{}
	for rows.Next() {
		var id uuid.UUID
		require.NoError(t, rows.Scan(&id))
		require.False(t, ids[id], "%s comes twice", id)
		ids[id] = true
	}
	require.NoError(t, rows.Err())
	return ids
}

func sameIDs(want, got map[uuid.UUID]bool) error {
	var errs []error
	for id := range want {
		if !got[id] {
			errs = append(errs, fmt.Errorf("%s is missing", id))
		}
	}
	for id := range got {
		if !want[id] {
			errs = append(errs, fmt.Errorf("%s should not be there", id))
		}
	}
	if len(errs) > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d more", len(errs)-5))
	}
	return errors.Join(errs...)
}

// consumeTopic reads the topic from its beginning to its end with a plain consumer, checks each envelope against the contract, and returns the
// ids (duplicates are allowed) and the versions of each entity in topic order.
func consumeTopic(t *testing.T) (map[uuid.UUID]bool, map[uuid.UUID][]int64) {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	kafka, err := sarama.NewClient(splitComma(testenv.Require(t, testenv.KafkaBrokers)), config)
	require.NoError(t, err)
	defer kafka.Close()
	consumer, err := sarama.NewConsumerFromClient(kafka)
	require.NoError(t, err)
	defer consumer.Close()
	partitions, err := consumer.Partitions(topic)
	require.NoError(t, err)

	ids, versions := map[uuid.UUID]bool{}, map[uuid.UUID][]int64{}
	for _, partition := range partitions {
		end, err := kafka.GetOffset(topic, partition, sarama.OffsetNewest)
		require.NoError(t, err)
		begin, err := kafka.GetOffset(topic, partition, sarama.OffsetOldest)
		require.NoError(t, err)
		if begin == end {
			continue
		}
		stream, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		require.NoError(t, err)
		for last := begin - 1; last < end-1; {
			select {
			case message := <-stream.Messages():
				last = message.Offset
				require.NoError(t, event.Validate(message.Value), string(message.Value))
				envelope, err := event.Decode(message.Value)
				require.NoError(t, err)
				require.Equal(t, envelope.Entity.ID.String(), string(message.Key))
				if !ids[envelope.EventID] {
					ids[envelope.EventID] = true
					versions[envelope.Entity.ID] = append(versions[envelope.Entity.ID], entityVersion(t, envelope))
				}
			case <-time.After(30 * time.Second):
				require.Fail(t, "the topic ended early", "partition %d at %d of %d", partition, last, end)
			}
		}
		require.NoError(t, stream.Close())
	}
	return ids, versions
}

func requireGrowingVersions(t *testing.T, versions map[uuid.UUID][]int64) {
	t.Helper()
	for id, list := range versions {
		for i := 1; i < len(list); i++ {
			require.Greater(t, list[i], list[i-1], "the events of %s are out of order: %v", id, list)
		}
	}
}

// requireEveryVersion checks that the topic has an event for each version of what is there: the outbox keeps none that was published.
func requireEveryVersion(t *testing.T, e *env, versions map[uuid.UUID][]int64) {
	t.Helper()
	rows, err := e.db.Query(t.Context(), `SELECT id, version FROM items WHERE deleted_at IS NULL
		UNION ALL SELECT id, version FROM collections WHERE deleted_at IS NULL
		UNION ALL SELECT m.id, m.version FROM memberships m JOIN collections c ON c.id = m.collection_id
			WHERE m.created_at <> c.created_at -- the membership that comes with a collection is part of CollectionCreated`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var version int64
		require.NoError(t, rows.Scan(&id, &version))
		require.Len(t, versions[id], int(version), "the events of %s", id)
	}
	require.NoError(t, rows.Err())
}

func indexedIDs(ctx context.Context, t *testing.T) map[uuid.UUID]bool {
	t.Helper()
	ids := map[uuid.UUID]bool{}
	after := ""
	for {
		var page struct {
			Hits struct {
				Hits []struct {
					ID   string `json:"_id"`
					Sort []any  `json:"sort"`
				} `json:"hits"`
			} `json:"hits"`
		}
		query := `/atlas-items/_search?source=` + escape(`{"size":1000,"_source":false,"sort":[{"id":"asc"}]`+after+`}`) + `&source_content_type=application/json`
		esGet(ctx, t, query, &page)
		if len(page.Hits.Hits) == 0 {
			return ids
		}
		for _, hit := range page.Hits.Hits {
			id, err := uuid.Parse(hit.ID)
			require.NoError(t, err)
			ids[id] = true
			after = fmt.Sprintf(`,"search_after":[%q]`, hit.Sort[0])
		}
	}
}
