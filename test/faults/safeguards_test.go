//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// TestMain lets more scenarios run at a time than there are processors: most of their time they wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() < "6" {
		_ = flag.Set("test.parallel", "6") // a number
	}
	os.Exit(m.Run())
}

// edit takes something out of a source file.
type edit struct {
	file          string // from the root
	text, without string
}

// safeguard is something in the program that keeps the promises, and a scenario in which they are broken without it.
type safeguard struct {
	name     string
	edits    []edit
	database string // what is taken out of PostgreSQL, as SQL
	roles    []string
	scenario func(p *platformBundle, c *client)
	cut      bool   // it cuts the platform off from Kafka
	finds    string // the kind of finding that there has to be without it
	shown    bool   // another one shows that the program as it is comes through
}

var safeguards = []safeguard{
	{
		name: "the index compares versions", scenario: lateBulk, finds: staleIndex, roles: []string{"api", "audit", "indexer"},
		edits: []edit{{
			"internal/elastic/bulk.go",
			"	body = strconv.AppendInt(append(body, `,\"version\":`...), a.Version, 10)\n	body = append(append(append(body, `,\"version_type\":\"`...), a.VersionType...), `\"}}`...)\n",
			"	body = append(body, `}}`...)\n",
		}},
	},
	{
		name: "a batch is committed after its work", scenario: killedAtWork, finds: lostEvent, roles: []string{"api", "audit", "indexer"},
		edits: []edit{{
			"internal/kafka/batch.go",
			"		if len(batch) == 0 || !m.finish(ctx, place, batch) {",
			"		if len(batch) > 0 {\n			session.MarkMessage(batch[len(batch)-1], \"\")\n			session.Commit()\n		}\n		if len(batch) == 0 || !m.finish(ctx, place, batch) {",
		}},
	},
	{
		name: "one relay leads", scenario: calm, finds: repetition, roles: []string{"api", "api", "audit", "indexer"},
		edits: []edit{{"services/relay/candidacy.go", "		if leads {\n", "		if leads || true {\n"}},
	},
	{
		name: "the relay makes sure that it still leads", scenario: idle, finds: repetition, roles: []string{"api", "api", "audit", "indexer"},
		edits: []edit{{
			"services/relay/leader.go", "	if time.Since(l.heard) < freshness {\n", "	if true || time.Since(l.heard) < freshness {\n",
		}},
	},
	{
		name: "what is sent again keeps its sequence number", scenario: lostAcknowledgement, cut: true, finds: repetition, roles: []string{"api", "audit", "indexer"},
		edits: []edit{{
			"services/relay/produce/lane.go", "		ProducerID: p.id, ProducerEpoch: p.epoch, FirstSequence: p.sequences[partition], Records: c.records,\n",
			"		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: c.records,\n",
		}},
	},
	{
		name: "an event leaves the outbox when Kafka has it, not before", scenario: kafkaAway, cut: true, finds: lostEvent, roles: []string{"api", "audit", "indexer"},
		edits: []edit{{
			"services/relay/leader.go", "	sendCtx, cancel := context.WithCancel(ctx)\n",
			"	for _, e := range batch {\n		l.acked = append(l.acked, e.id)\n	}\n	_ = l.settle(ctx)\n	sendCtx, cancel := context.WithCancel(ctx)\n",
		}},
	},
	{
		name: "the outbox is read without a cursor", scenario: lateCommit, finds: unpublished, roles: []string{"api", "audit", "indexer"},
		edits: []edit{
			{"services/relay/window.go", "		copy(e.eventID[:], columns[1])\n", "		if e.id <= cursor {\n			continue\n		}\n		cursor = e.id\n		copy(e.eventID[:], columns[1])\n"},
			{"services/relay/window.go", "const waitingColumns = 5\n", "const waitingColumns = 5\n\nvar cursor int64\n"},
		},
	},
	{
		name: "an item is written as the version that it was read before", scenario: twoEdits, finds: disorder, roles: []string{"api", "audit", "indexer"},
		edits: []edit{{
			"internal/postgres/db/item_write.sql.go",
			"        collection_id = $1, title = $2, content = $3, source_url = $4,\n        source_key = CASE WHEN $5::boolean THEN $6 ELSE i.source_key END, metadata = $7, version = i.version + 1, updated_by = $8, updated_at = $9\n    WHERE i.id = $10 AND i.version = $11 ",
			"        collection_id = $1, title = $2, content = $3, source_url = $4,\n        source_key = CASE WHEN $5::boolean THEN $6 ELSE i.source_key END, metadata = $7, version = i.version + 1, updated_by = $8, updated_at = $9\n    WHERE i.id = $10 AND $11::bigint > 0 ",
		}},
	},
	{
		name: "a collection is locked, and its version bumped, before its event", scenario: twoRenames, finds: disorder, roles: []string{"api", "audit", "indexer"},
		edits: []edit{
			{"internal/postgres/db/collections.sql.go", "m.user_id = $2)\nFOR NO KEY UPDATE OF c\n", "m.user_id = $2)\n"},
			{
				"services/api/collections.go", "	row.Version, err = q.UpdateCollection(ctx, db.UpdateCollectionParams{\n",
				"	if err := emit(ctx, q, event.CollectionUpdated, collectionEntity(row.ID), row.UpdatedAt, event.CollectionData{\n		CollectionID: row.ID, EntityVersion: row.Version + 1, ChangedFields: changed, Name: row.Name,\n	}); err != nil {\n		return err\n	}\n	row.Version, err = q.UpdateCollection(ctx, db.UpdateCollectionParams{\n",
			},
			{
				"services/api/collections.go",
				"		return fmt.Errorf(\"update the collection: %w\", err)\n	}\n	return emit(ctx, q, event.CollectionUpdated, collectionEntity(row.ID), row.UpdatedAt, event.CollectionData{\n		CollectionID: row.ID, EntityVersion: row.Version, ChangedFields: changed, Name: row.Name,\n	})\n",
				"		return fmt.Errorf(\"update the collection: %w\", err)\n	}\n	return nil\n",
			},
		},
	},
	{
		name: "the trail takes an event once", scenario: doneAgain, finds: surplusEvent, roles: []string{"api", "audit", "indexer"},
		database: "ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey",
	},
	{
		// Any of the three is enough: the lock, that a position is unique, that a head only moves on.
		name: "one writer at a time goes on with a chain", scenario: twoWriters, finds: brokenChain, roles: []string{"api", "audit", "indexer"},
		edits: []edit{{"services/audit/writer.go", "	if err := q.LockAuditChain(ctx, lockNamespace, partition); err != nil {", "	if err := error(nil); err != nil {"}},
		database: `ALTER TABLE audit_events DROP CONSTRAINT audit_events_kafka_partition_chain_position_key;
			DROP TRIGGER audit_heads_guard ON audit_heads`,
	},
	// These are no safeguards. Without them the program lies to its clients, and the checks have to find that too.
	{
		name: "an import stores what it says", scenario: everything, finds: lostState, roles: []string{"api", "audit", "indexer", "worker"},
		edits: []edit{{
			"services/api/import.go", "		err = x.server.write(ctx, func(q *db.Queries) error {\n			created, err = x.writeIn(ctx, q)\n			return err\n		})\n",
			"		err = x.server.write(ctx, func(q *db.Queries) error {\n			created = len(x.batch.Items)\n			return nil\n		})\n",
		}},
	},
	{
		name: "a change of tags changes the items", scenario: everything, finds: lostEvent, shown: true, roles: []string{"api", "audit", "indexer", "worker"},
		edits: []edit{{"services/api/retag.go", "	err := r.changeItems(ctx, q)\n", "	err := error(nil)\n	if err == nil {\n		return nil\n	}\n"}},
	},
	{
		name: "a change of a role is stored", scenario: everything, finds: lostEvent, shown: true, roles: []string{"api", "audit", "indexer", "worker"},
		edits: []edit{{"services/api/members.go", "		return changeRole(ctx, q, &member, patch.Role, s.now())\n", "		member.Role = string(patch.Role)\n		return nil\n"}},
	},
}

// settleScenario is how long a platform may take to settle, with the safeguard or without.
const settleScenario = time.Minute

// TestSafeguards runs each scenario with the program as it is, which must come through, and without the safeguard, which must be found out.
func TestSafeguards(t *testing.T) {
	if testing.Short() {
		t.Skip("needs servers of its own, some minutes")
	}
	servers := startServers(t, "safeguards")
	program := build(t, "")
	for _, s := range safeguards {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if s.shown {
				t.Skip("the scenario is run above")
			}
			require.Empty(t, s.run(t, servers, program, "", nil).first(5))
		})
		t.Run(s.name+": without", func(t *testing.T) {
			t.Parallel()
			without := program
			if len(s.edits) > 0 {
				without = build(t, s.overlay(t))
			}
			expected := func(found findings) bool { return found.has(s.finds) }
			found := s.run(t, servers, without, s.database, expected)
			require.True(t, expected(found), "nothing finds out that the safeguard is gone, by way of: %s. Found: %v", s.finds, found.first(5))
			t.Log(found.first(3))
		})
	}
}

// TestSafeguardsAreWhereTheyWere finds at once, without a server, what TestSafeguards could not take out any more.
func TestSafeguardsAreWhereTheyWere(t *testing.T) {
	t.Parallel()
	for _, s := range safeguards {
		s.overlay(t)
	}
}

// overlay is a file that makes the compiler take the program without the safeguard.
func (s safeguard) overlay(t *testing.T) string {
	t.Helper()
	changed, replace, folder := map[string]string{}, map[string]string{}, t.TempDir()
	for n, e := range s.edits {
		path, err := filepath.Abs(filepath.Join("../..", e.file))
		require.NoError(t, err)
		if changed[path] == "" {
			source, err := os.ReadFile(path)
			require.NoError(t, err)
			changed[path] = string(source)
		}
		require.Equal(t, 1, strings.Count(changed[path], e.text), "%s has changed: say anew how to take the safeguard out", e.file)
		changed[path] = strings.Replace(changed[path], e.text, e.without, 1)
		if replace[path] == "" {
			replace[path] = filepath.Join(folder, filepath.Base(path)+string(rune('a'+n)))
		}
		require.NoError(t, os.WriteFile(replace[path], []byte(changed[path]), 0o600))
	}
	overlay, err := json.Marshal(object{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(folder, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	return file
}

func (s safeguard) run(t *testing.T, servers *serverBundle, program, database string, enough func(findings) bool) findings {
	t.Helper()
	p := newPlatform(t, servers, program, s.cut, s.roles...)
	if database != "" {
		p.exec(database)
	}
	w := newWorkload(p, 1, 2)
	c := w.clients[0]
	c.begin()
	c.createCollection()
	c.begin()
	c.createItem()
	require.Len(t, c.items, 1)
	p.settled()
	s.scenario(p, c)
	found := verify(p, w, settleScenario, enough)
	p.logTails(enough == nil && len(found) > 0)
	return found
}

// connect makes a connection around the proxies.
func (p *platformBundle) connect() *pgx.Conn {
	database, err := pgx.Connect(p.t.Context(), p.database)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = database.Close(context.Background()) }) // nothing is pending
	return database
}

func (p *platformBundle) exec(statement string) {
	_, err := p.connect().Exec(p.t.Context(), statement)
	require.NoError(p.t, err)
}

// settled waits until nothing is behind.
func (p *platformBundle) settled() {
	var found findings
	v := &verifier{t: p, db: p.connect(), found: &found}
	v.settle(p.t.Context(), settleScenario)
	require.Empty(p.t, found)
}

// published waits until everything is in Kafka.
func (p *platformBundle) published() { p.until(behind[unpublished] + " HAVING count(*) = 0") }

// until waits for the row of a query.
func (p *platformBundle) until(query string) {
	database := p.connect()
	require.Eventually(p.t, func() bool {
		var any any
		return database.QueryRow(p.t.Context(), query).Scan(&any) == nil
	}, settleScenario, 20*time.Millisecond, query)
}
