//go:build linux

package faults

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/audit"
	"github.com/atlas-platform/atlas/services/relay/produce"
)

// retitle gives the client's first item another title.
func (c *client) retitle() {
	c.begin()
	i, title := c.items[0], fmt.Sprintf("title %d by %s", c.sent, c.name)
	i.title.learn(c.change("update", i, object{"title": title}).outcome, title)
}

// lateBulk keeps an indexer's request on its way until the item has changed again and another indexer has written that.
func lateBulk(p *platformBundle, c *client) {
	const late = 30 * time.Second // longer than the group waits for a member that is gone
	first := p.of("indexer")[0]
	first.links[elasticsearch].delay(late)
	c.retitle()
	p.published()
	pause(3 * time.Second) // the request is on its way
	sent := time.Now()
	require.NoError(p.t, first.kill())
	c.retitle()
	p.addRole("indexer")
	p.settled()
	require.Less(p.t, time.Since(sent), late-4*time.Second, "the other indexer came too late for the scenario")
	pause(late - time.Since(sent))
}

// killedAtWork kills a consumer whose work can't be done for the moment.
func killedAtWork(p *platformBundle, c *client) {
	consumer := p.of("audit")[0]
	consumer.links[postgres].partition()
	c.retitle()
	p.published()
	pause(3 * time.Second) // the consumer has the event
	require.NoError(p.t, consumer.kill())
	consumer.links[postgres].heal()
	consumer.start()
}

// calm breaks nothing.
func calm(p *platformBundle, c *client) {
	c.once = true
	for range 300 {
		c.retitle()
	}
	p.published()
}

// idle breaks nothing either: there is only nothing to do for longer than the relay's lease. Then the API whose relay led is asked for a change.
func idle(p *platformBundle, c *client) {
	c.once = true
	for _, r := range p.of("api") {
		if r.leads() {
			c.addresses = []string{"http://" + r.address}
		}
	}
	require.Len(p.t, c.addresses, 1)
	pause(7 * time.Second)
	for range 20 {
		c.retitle()
		pause(20 * time.Millisecond)
	}
	p.published()
}

// lostAcknowledgement ends the connections to Kafka when it has an event, before it can say so.
func lostAcknowledgement(p *platformBundle, c *client) {
	c.once = true
	for range 3 {
		end := p.end()
		p.kafka.deaf()
		c.retitle()
		require.Eventually(p.t, func() bool { return p.end() > end }, settleScenario, 20*time.Millisecond)
		p.kafka.reset()
		p.kafka.heal()
		p.kafka.accept()
		p.published()
	}
}

// end is how many messages the topic has got.
func (p *platformBundle) end() (end int64) {
	client, err := sarama.NewClient([]string{p.servers.KafkaBrokers}, kafka.NewConfig("atlas-faults"))
	require.NoError(p.t, err)
	defer ignore(client.Close)
	for partition := range int32(partitions) {
		n, err := client.GetOffset(p.topic, partition, sarama.OffsetNewest)
		require.NoError(p.t, err)
		end += n
	}
	return end
}

// kafkaAway ends the API while Kafka can't be reached.
func kafkaAway(p *platformBundle, c *client) {
	p.kafka.partition()
	for range 20 {
		c.retitle()
	}
	pause(2 * time.Second) // the relay tries
	api := p.of("api")[0]
	require.NoError(p.t, api.kill())
	p.kafka.heal()
	api.start()
}

// besides changes the client's first item in a transaction of its own, and returns the event.
func besides(p *platformBundle, c *client, tx pgx.Tx) (event.Envelope, []byte) {
	i := c.items[0]
	item, collection := uuid.MustParse(i.id), uuid.MustParse(i.home.last)
	var version int64
	require.NoError(p.t, tx.QueryRow(p.t.Context(), "UPDATE items SET title = 'besides', version = version + 1 WHERE id = $1 RETURNING version", item).Scan(&version))
	i.title.learn(unanswered, "besides")
	e, err := event.New(event.ItemUpdated, event.Entity{Type: event.EntityItem, ID: item, CollectionID: &collection}, event.Origin{}, time.Now(), event.ItemData{
		ItemID: item, CollectionID: collection, EntityVersion: version, ChangedFields: []string{"title"},
	})
	require.NoError(p.t, err)
	payload, err := json.Marshal(e)
	require.NoError(p.t, err)
	return e, payload
}

// lateCommit commits an event after others whose place in the outbox is behind its own.
func lateCommit(p *platformBundle, c *client) {
	ctx := p.t.Context()
	tx, err := p.connect().Begin(ctx)
	require.NoError(p.t, err)
	late, payload := besides(p, c, tx)
	require.NoError(p.t, db.New(tx).InsertOutbox(ctx, db.InsertOutboxParams{EventID: late.EventID, AggregateID: late.Entity.ID, Payload: payload}))
	for range 5 { // behind it in the outbox, committed before
		c.begin()
		c.createItem()
	}
	p.published()
	require.NoError(p.t, tx.Commit(ctx))
}

// together has two clients of one account do something at the same time: both have begun, and wait for a row.
func together(p *platformBundle, c *client, row string, do func(*client)) {
	ctx := p.t.Context()
	tx, err := p.connect().Begin(ctx)
	require.NoError(p.t, err)
	held, err := tx.Exec(ctx, row)
	require.NoError(p.t, err)
	require.EqualValues(p.t, 1, held.RowsAffected())
	var writers sync.WaitGroup
	for n := range 2 {
		twin := c.newClient(c.number, fmt.Sprintf("twin%d", n))
		twin.begin()
		writers.Go(func() { do(twin) })
	}
	p.waiting(2)
	require.NoError(p.t, tx.Commit(ctx))
	writers.Wait()
}

// waiting waits until so many sessions wait for others.
func (p *platformBundle) waiting(n int) {
	p.until(fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' HAVING count(*) >= %d", n))
}

// twoEdits has two clients change an item at the same time.
func twoEdits(p *platformBundle, c *client) {
	i := c.items[0]
	var mu sync.Mutex
	together(p, c, "SELECT FROM items WHERE id = '"+i.id+"' FOR UPDATE", func(twin *client) {
		same := *i // until both have their answers
		title := "by " + twin.name
		a := twin.change("update", &same, object{"title": title})
		mu.Lock()
		defer mu.Unlock()
		a.write.must[0].of = &i.entity
		i.title.learn(unanswered, title) // who was last?
		i.version = max(i.version, same.version)
	})
}

// twoRenames has two clients rename a collection at the same time.
func twoRenames(p *platformBundle, c *client) {
	where := c.collections[0]
	var mu sync.Mutex
	together(p, c, "SELECT FROM collections WHERE id = '"+where.id+"' FOR UPDATE", func(twin *client) {
		same := *where
		twin.rename(&same)
		mu.Lock()
		defer mu.Unlock()
		where.title.learn(unanswered, same.title.last)
		where.version = max(where.version, same.version)
	})
}

// doneAgain gives the audit consumer the whole topic again.
func doneAgain(p *platformBundle, c *client) {
	for range 5 {
		c.retitle()
	}
	p.settled()
	consumer := p.of("audit")[0]
	_, err := consumer.stop()
	require.NoError(p.t, err)
	out, code := p.command("replay", "--group", "audit", "--from", "beginning", "--wait")
	require.Zero(p.t, code, out)
	consumer.start()
}

// twoWriters has somebody else add to the chain of a partition, as the consumer of another topic would, at the same time as the consumer: both have read
// where the chain ends before either goes on.
func twoWriters(p *platformBundle, c *client) {
	ctx := p.t.Context()
	database := p.connect()
	tx, err := database.Begin(ctx)
	require.NoError(p.t, err)
	e, payload := besides(p, c, tx)
	require.NoError(p.t, tx.Commit(ctx))
	p.handed = append(p.handed, e.EventID)
	tx, err = database.Begin(ctx)
	require.NoError(p.t, err)
	_, err = tx.Exec(ctx, "LOCK TABLE audit_events IN SHARE MODE") // can be read
	require.NoError(p.t, err)
	pool, err := pgxpool.New(ctx, p.database)
	require.NoError(p.t, err)
	defer pool.Close()
	done := make(chan error)
	go func() {
		partition := int32(produce.Partition([]byte(e.Entity.ID.String()), partitions))
		_, err := audit.NewWriter(pool).Handle(ctx, []*sarama.ConsumerMessage{{Topic: "another", Partition: partition, Value: payload}})
		done <- err
	}()
	p.waiting(1)
	c.retitle()
	p.waiting(2)
	require.NoError(p.t, tx.Commit(ctx))
	require.NoError(p.t, <-done)
}

// everything has a client write everything.
func everything(p *platformBundle, c *client) {
	for range 400 {
		c.step()
	}
	for _, kind := range []string{"import", "rename-tag", "change-role"} {
		require.NotZero(p.t, c.counts[kind][acknowledged], "too few to tell: %s", kind)
	}
}
