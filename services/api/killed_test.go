package api_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
)

// TestWritesWhoseConnectionsAreKilled ends database sessions in the middle of their work. Every client repeats what failed, with its
// Idempotency-Key, until it is done: each write is there once, with its event.
func TestWritesWhoseConnectionsAreKilled(t *testing.T) {
	t.Parallel()
	const clients, rounds = 8, 9
	b := setup(t)
	ada := b.account("ada")
	collection := b.collection(ada, "c")
	path := "/v1/items/" + b.item(ada, collection, "counted")
	kill := func() {
		// It may be killed itself.
		_, _ = b.pool.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM (
			SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
			ORDER BY random() LIMIT 1) AS one`)
	}
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for round := range rounds {
				name := fmt.Sprintf("w%d-%d", client, round)
				for done := false; !done; {
					if rand.IntN(6) == 0 {
						kill()
					}
					var a answer
					switch round % 3 {
					case 0:
						a = b.call(ada, "POST", "/v1/items", newItem(collection, name), key(name))
					case 1:
						a = b.call(ada, "POST", "/v1/items/bulk", bulk(round%2 == 0, creation(collection, name), creation(collection, name)), key(name))
					default:
						a = b.call(ada, "PATCH", path, object{"metadata": object{name: true}})
					}
					if done = a.status < 300; !done && a.status != 503 {
						t.Errorf("%d %s", a.status, a.raw)
						return
					}
				}
			}
		})
	}
	group.Wait()
	b.pool.Reset() // some sessions are dead
	once := "SELECT count(*) FROM (SELECT 1 FROM items WHERE title LIKE 'w%%' GROUP BY title HAVING count(*) = %d) AS titles"
	require.Equal(t, clients*rounds/3, b.number(fmt.Sprintf(once, 1)))
	require.Equal(t, clients*rounds/3, b.number(fmt.Sprintf(once, 2)))
	require.Equal(t, b.number("SELECT count(*) FROM items"), b.count(event.ItemCreated))
	require.Len(t, b.get(ada, path[len("/v1/items/"):])["metadata"], clients*rounds/3)
	require.Zero(t, b.number(`SELECT count(*) FROM items i WHERE version <> (SELECT count(*) FROM outbox o WHERE o.aggregate_id = i.id)
		OR version <> 1 + (SELECT count(*) FROM item_revisions r WHERE r.item_id = i.id)`))
	require.Zero(t, b.number("SELECT count(*) FROM idempotency_keys WHERE status = 0"))
}
