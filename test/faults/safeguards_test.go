//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// mutantSettle is how long a program that lacks a safeguard may try to settle.
const mutantSettle = 25 * time.Second

// safeguard is something in the program that keeps the promises, and a scenario in which they are broken without it.
type safeguard struct {
	name string
	// file holds the safeguard, from the root; text is it, and without is what is left when it is taken out.
	file, text, without string
	also                map[string]string // other replacements that this takes
	roles               []string
	scenario            func(p *platformBundle, c *client)
}

var safeguards = []safeguard{
	{
		name:    "the index compares versions",
		file:    "internal/elastic/bulk.go",
		text:    "	body = strconv.AppendInt(append(body, `,\"version\":`...), a.Version, 10)\n	body = append(append(append(body, `,\"version_type\":\"`...), a.VersionType...), `\"}}`...)\n",
		without: "	body = append(body, `}}`...)\n",
		roles:   []string{"api", "audit", "indexer"}, scenario: lateBulk,
	},
	{
		name:    "a batch is committed after its work",
		file:    "internal/kafka/batch.go",
		text:    "		if len(batch) == 0 || !m.finish(ctx, place, batch) {",
		without: "		if len(batch) > 0 {\n			session.MarkMessage(batch[len(batch)-1], \"\")\n			session.Commit()\n		}\n		if len(batch) == 0 || !m.finish(ctx, place, batch) {",
		roles:   []string{"api", "audit", "indexer"}, scenario: killedAtWork,
	},
	{
		name:    "one relay leads",
		file:    "services/relay/candidacy.go",
		text:    "		if leads {\n",
		without: "		if leads || true {\n",
		roles:   []string{"api", "api", "audit", "indexer"}, scenario: calm,
	},
	{
		name:    "an event leaves the outbox when Kafka has it, not before",
		file:    "services/relay/leader.go",
		text:    "		sendCtx, cancel := context.WithCancel(ctx)\n",
		without: "		_ = l.settle(ctx, sending.ids)\n		sendCtx, cancel := context.WithCancel(ctx)\n",
		roles:   []string{"api", "audit", "indexer"}, scenario: kafkaAway,
	},
	{
		name:    "the outbox is read without a cursor",
		file:    "services/relay/leader.go",
		text:    "	found.ids = make([]int64, len(found.rows))\n",
		without: "	found.rows = slices.DeleteFunc(found.rows, func(row db.NextOutboxRow) bool { return row.ID <= l.cursor })\n	if n := len(found.rows); n > 0 {\n		l.cursor = found.rows[n-1].ID\n	}\n	found.ids = make([]int64, len(found.rows))\n",
		also: map[string]string{
			"	heard time.Time\n": "	heard time.Time\n	cursor int64\n",
			"	\"fmt\"\n":         "	\"fmt\"\n	\"slices\"\n",
		},
		roles: []string{"api", "audit", "indexer"}, scenario: lateCommit,
	},
}

// TestSafeguards runs each scenario with the program as it is, which must come through, and without the safeguard, which must be found out.
func TestSafeguards(t *testing.T) {
	if testing.Short() {
		t.Skip("needs servers of its own, some minutes")
	}
	servers := startServers(t, "safeguards")
	program := build(t, "")
	for _, s := range safeguards {
		t.Run(s.name, func(t *testing.T) {
			require.Empty(t, s.run(t, servers, program, time.Minute))
		})
		t.Run(s.name+": without", func(t *testing.T) {
			found := s.run(t, servers, build(t, s.overlay(t)), mutantSettle)
			require.NotEmpty(t, found, "nothing finds out that the safeguard is gone")
			t.Log(found.first(3))
		})
	}
}

// overlay is a file that makes the compiler take the program without the safeguard.
func (s safeguard) overlay(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../..", s.file))
	require.NoError(t, err)
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), s.text), "%s has changed: say anew how to take the safeguard out", s.file)
	mutant := filepath.Join(t.TempDir(), "mutant.go")
	changed := strings.Replace(string(source), s.text, s.without, 1)
	for text, other := range s.also {
		require.Equal(t, 1, strings.Count(changed, text), "%s has changed: say anew how to take the safeguard out", s.file)
		changed = strings.Replace(changed, text, other, 1)
	}
	require.NoError(t, os.WriteFile(mutant, []byte(changed), 0o600))
	overlay, err := json.Marshal(object{"Replace": map[string]string{path: mutant}})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	return file
}

func (s safeguard) run(t *testing.T, servers *serverBundle, program string, settle time.Duration) findings {
	t.Helper()
	p := newPlatform(t, servers, program, s.roles...)
	w := newWorkload(p, 2)
	c := w.newClient(1, 0)
	c.createCollection()
	c.createItem()
	require.Len(t, c.items, 1)
	p.settled(t)
	s.scenario(p, c)
	found := verify(p, w, settle)
	p.logTails(t.Failed())
	return found
}

// settled waits until nothing is behind.
func (p *platformBundle) settled(t *testing.T) {
	t.Helper()
	var found findings
	database, err := pgx.Connect(t.Context(), p.database)
	require.NoError(t, err)
	defer database.Close(context.Background()) //nolint:errcheck // nothing is pending
	v := &verifier{t: p, db: database, found: &found}
	v.settle(t.Context(), time.Minute)
	require.Empty(t, found)
}

// published waits until everything is in Kafka.
func (p *platformBundle) published(t testing.TB) {
	database, err := pgx.Connect(t.Context(), p.database)
	require.NoError(t, err)
	defer database.Close(context.Background()) //nolint:errcheck // nothing is pending
	require.Eventually(t, func() bool {
		var n int
		return database.QueryRow(t.Context(), behind["events not published"]).Scan(&n) == nil && n == 0
	}, time.Minute, 20*time.Millisecond)
}

// lateBulk keeps an indexer's request on its way until the item has changed again and another indexer has written that.
func lateBulk(p *platformBundle, c *client) {
	const late = 30 * time.Second // longer than the group waits for a member that is gone
	first := p.of("indexer")[0]
	first.links[elasticsearch].delay(late)
	c.do("update", true, "PATCH", "/v1/items/"+c.items[0], object{"title": "the second version"})
	p.published(p.t)
	pause(2 * time.Second) // the request is on its way
	sent := time.Now()
	first.kill()
	c.do("update", true, "PATCH", "/v1/items/"+c.items[0], object{"title": "the third version"})
	p.addRole("indexer")
	p.settled(p.t.(*testing.T))
	require.Less(p.t, time.Since(sent), late-3*time.Second, "the other indexer came too late for the scenario")
	pause(late - time.Since(sent))
}

// killedAtWork kills a consumer whose work can't be done for the moment.
func killedAtWork(p *platformBundle, c *client) {
	consumer := p.of("audit")[0]
	consumer.links[postgres].partition()
	c.do("update", true, "PATCH", "/v1/items/"+c.items[0], object{"title": "the second version"})
	p.published(p.t)
	pause(2 * time.Second) // the consumer has the event
	consumer.kill()
	consumer.links[postgres].heal()
	consumer.start()
}

// calm breaks nothing.
func calm(p *platformBundle, c *client) {
	c.calm = true
	for range 300 {
		c.do("update", true, "PATCH", "/v1/items/"+c.items[0], object{"title": fmt.Sprintf("title %d", c.sent)})
	}
	p.published(p.t)
}

// kafkaAway ends the API while Kafka can't be reached.
func kafkaAway(p *platformBundle, c *client) {
	p.kafka.partition()
	for range 20 {
		c.do("update", true, "PATCH", "/v1/items/"+c.items[0], object{"title": fmt.Sprintf("title %d", c.sent)})
	}
	pause(2 * time.Second) // the relay tries
	api := p.of("api")[0]
	api.kill()
	p.kafka.heal()
	api.start()
}

// lateCommit commits an event after others whose place in the outbox is behind its own.
func lateCommit(p *platformBundle, c *client) {
	ctx := p.t.Context()
	database, err := pgx.Connect(ctx, p.database)
	require.NoError(p.t, err)
	defer database.Close(context.Background()) //nolint:errcheck // nothing is pending
	tx, err := database.Begin(ctx)
	require.NoError(p.t, err)
	item, collection := uuid.MustParse(c.items[0]), uuid.MustParse(c.home[c.items[0]])
	var version int64
	require.NoError(p.t, tx.QueryRow(ctx, "UPDATE items SET title = 'late', version = version + 1 WHERE id = $1 RETURNING version", item).Scan(&version))
	late, err := event.New(event.ItemUpdated, event.Entity{Type: event.EntityItem, ID: item, CollectionID: &collection}, event.Origin{}, time.Now(), event.ItemData{
		ItemID: item, CollectionID: collection, EntityVersion: version, ChangedFields: []string{"title"},
	})
	require.NoError(p.t, err)
	payload, err := json.Marshal(late)
	require.NoError(p.t, err)
	require.NoError(p.t, db.New(tx).InsertOutbox(ctx, db.InsertOutboxParams{EventID: late.EventID, AggregateID: item, Payload: payload}))
	for range 5 {
		c.createItem() // behind it in the outbox, committed before
	}
	p.published(p.t)
	require.NoError(p.t, tx.Commit(ctx))
}
