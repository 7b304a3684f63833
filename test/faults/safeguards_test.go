//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// mutantSettle is how long a program that lacks a safeguard may try to settle.
const mutantSettle = 25 * time.Second

// safeguard is something in the program that keeps the promises, and a scenario in which they are broken without it.
type safeguard struct {
	name string
	// file holds the safeguard, from the root; text is it, and without is what is left when it is taken out.
	file, text, without string
	roles               []string
	scenario            func(p *platformBundle, c *client)
}

var safeguards = []safeguard{
	{
		name:    "the index compares versions",
		file:    "internal/elastic/bulk.go",
		text:    "json.Marshal(map[string]meta{operation: {ID: a.ID, Version: a.Version, VersionType: a.VersionType}})",
		without: "json.Marshal(map[string]map[string]string{operation: {\"_id\": a.ID}})",
		roles:   []string{"api", "audit", "indexer"}, scenario: lateBulk,
	},
	{
		name:    "a batch is committed after its work",
		file:    "internal/kafka/batch.go",
		text:    "		if !m.finish(ctx, place, batch) {",
		without: "		session.MarkMessage(batch[len(batch)-1], \"\")\n		session.Commit()\n		if !m.finish(ctx, place, batch) {",
		roles:   []string{"api", "audit", "indexer"}, scenario: killedAtWork,
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
	require.NoError(t, os.WriteFile(mutant, []byte(strings.Replace(string(source), s.text, s.without, 1)), 0o600))
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
	const late = 22 * time.Second // longer than the group waits for a member that is gone
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
