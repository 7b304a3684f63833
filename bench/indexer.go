package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/elastic/go-elasticsearch/v8"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/services/indexer"
)

const (
	indexerShare      = 0.7
	indexerBatch      = 500 // the consumer's
	indexerPartitions = 3
	searchableLimit   = 1500 * time.Millisecond
	searchablePace    = 10 // writes a second
)

// measureIndexer compares the indexer, from a batch of Kafka messages until what it did is recorded, with a bare loop that reads the same rows with
// pgx and sends them in one _bulk request, to an index of the same definition. Both give each item a new version first, outside the clock.
func measureIndexer(ctx context.Context, o options, p *platformBundle, r *report) error {
	bareAlias := p.alias + "-bare"
	if err := elastic.EnsureIndex(ctx, p.es, bareAlias, elastic.Params{}); err != nil {
		return err
	}
	defer dropAlias(context.WithoutCancel(ctx), p.es, bareAlias)
	batches, err := p.itemBatches(ctx)
	if err != nil {
		return err
	}
	service := indexer.New(indexer.Config{
		Kafka: config.Kafka{Brokers: p.brokers, Topic: p.topic}, Elasticsearch: config.Elasticsearch{Index: p.alias}, GroupPrefix: "bench",
	}, indexer.Deps{Logger: slog.New(slog.DiscardHandler), Pool: p.own, Elasticsearch: p.es})
	version := int64(1)
	raise := func(ctx context.Context) error {
		version++
		_, err := p.own.Exec(ctx, "UPDATE items SET version = $2 WHERE id = ANY ($1)", slices.Concat(batches...), version)
		return err
	}
	atlas := contender{"indexer: events → index", func(ctx context.Context, _ time.Duration, partitions int) (result, error) {
		if err := raise(ctx); err != nil {
			return result{}, err
		}
		messages := make([][]*sarama.ConsumerMessage, len(batches))
		for i, ids := range batches {
			if messages[i], err = itemMessages(p.collection, ids, version); err != nil {
				return result{}, err
			}
		}
		return inParallel(ctx, partitions, len(batches), func(ctx context.Context, i int) error {
			poison, err := service.Handle(ctx, messages[i])
			if err == nil && len(poison) > 0 {
				return errors.New(poison[0].Reason)
			}
			return err
		})
	}}
	bare := contender{"pgx → _bulk", func(ctx context.Context, _ time.Duration, partitions int) (result, error) {
		if err := raise(ctx); err != nil {
			return result{}, err
		}
		return inParallel(ctx, partitions, len(batches), func(ctx context.Context, i int) error {
			return bareIndex(ctx, p.own, p.es, bareAlias, batches[i])
		})
	}}
	measured, err := compare(ctx, o, indexerPartitions, atlas, bare)
	if err != nil {
		return err
	}
	r.ratio(atlas.name, bare.name, measured[0].perSecond, measured[1].perSecond, indexerShare)
	return p.measureSearchable(ctx, o, r)
}

// itemBatches are the seeded items in batches as the consumer's.
func (p *platformBundle) itemBatches(ctx context.Context) ([][]uuid.UUID, error) {
	rows, err := p.own.Query(ctx, "SELECT id FROM items WHERE deleted_at IS NULL ORDER BY id LIMIT 10000")
	if err != nil {
		return nil, fmt.Errorf("list items: %w", err)
	}
	defer rows.Close()
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list items: %w", err)
		}
		ids = append(ids, id)
	}
	return slices.Collect(slices.Chunk(ids, indexerBatch)), rows.Err()
}

func itemMessages(collection uuid.UUID, ids []uuid.UUID, version int64) ([]*sarama.ConsumerMessage, error) {
	out := make([]*sarama.ConsumerMessage, len(ids))
	for i, id := range ids {
		e, err := event.New(event.ItemUpdated, event.Entity{Type: event.EntityItem, ID: id, CollectionID: &collection}, event.Origin{}, time.Now(),
			event.ItemData{ItemID: id, CollectionID: collection, EntityVersion: version, ChangedFields: []string{"title"}})
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode an event: %w", err)
		}
		out[i] = &sarama.ConsumerMessage{Key: id[:], Value: value, Offset: int64(i)}
	}
	return out, nil
}

// inParallel works off all batches with so many workers.
func inParallel(ctx context.Context, workers, batches int, work func(ctx context.Context, i int) error) (result, error) {
	var next atomic.Int64
	failed := make(chan error, workers)
	begin := time.Now()
	for range workers {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= batches {
					failed <- nil
					return
				}
				if err := work(ctx, i); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	var err error
	for range workers {
		err = errors.Join(err, <-failed)
	}
	return result{perSecond: float64(batches*indexerBatch) / time.Since(begin).Seconds()}, err
}

const bareIndexSelect = `SELECT i.id, i.collection_id, i.title, i.content, i.source_url, i.version, i.created_by, i.created_at, i.updated_at,
	ARRAY(SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name)
	FROM items i WHERE i.id = ANY ($1)`

// bareIndex is what somebody would write who wants the documents in the index and nothing else.
func bareIndex(ctx context.Context, pool *pgxpool.Pool, es *elasticsearch.Client, alias string, ids []uuid.UUID) error {
	rows, err := pool.Query(ctx, bareIndexSelect, ids)
	if err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	defer rows.Close()
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	for rows.Next() {
		var d struct {
			ID           uuid.UUID `json:"id"`
			CollectionID uuid.UUID `json:"collection_id"`
			Title        string    `json:"title"`
			Content      string    `json:"content"`
			Tags         []string  `json:"tags"`
			SourceURL    *string   `json:"source_url,omitempty"`
			CreatedBy    uuid.UUID `json:"created_by"`
			CreatedAt    time.Time `json:"created_at"`
			UpdatedAt    time.Time `json:"updated_at"`
			Version      int64     `json:"version"`
		}
		err := rows.Scan(&d.ID, &d.CollectionID, &d.Title, &d.Content, &d.SourceURL, &d.Version, &d.CreatedBy, &d.CreatedAt, &d.UpdatedAt, &d.Tags)
		if err != nil {
			return fmt.Errorf("read items: %w", err)
		}
		fmt.Fprintf(&body, `{"index":{"_id":"%s","version":%d,"version_type":"external"}}`+"\n", d.ID, d.Version)
		if err := encoder.Encode(d); err != nil {
			return fmt.Errorf("encode an item: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	res, err := es.Bulk(&body, es.Bulk.WithContext(ctx), es.Bulk.WithIndex(alias), es.Bulk.WithFilterPath("errors"))
	if err != nil {
		return fmt.Errorf("write to the index: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.IsError() || !bytes.Contains(answer, []byte(`"errors":false`)) {
		return fmt.Errorf("write to the index: %s %s: %w", res.Status(), answer, err)
	}
	return nil
}

// measureSearchable times writes from before the request until a search finds them, with the whole way through relay, Kafka and indexer.
func (p *platformBundle) measureSearchable(ctx context.Context, o options, r *report) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	service := indexer.New(indexer.Config{
		Kafka: config.Kafka{Brokers: p.brokers, Topic: p.topic}, Elasticsearch: config.Elasticsearch{Index: p.alias}, GroupPrefix: p.topic,
	}, indexer.Deps{Logger: slog.New(slog.DiscardHandler), Pool: p.own, Elasticsearch: p.es})
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }()
	defer func() {
		stop()
		<-ended //nolint:errcheck // it was told to end
	}()
	api, err := client.NewClientWithResponses("http://"+p.address, client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+p.accessToken)
		return nil
	}))
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if _, err := searchable(ctx, api, p.collection, "first"); err != nil { // waits until the indexer is a member of its group
		return err
	}
	if err := p.indexFilled(ctx); err != nil {
		return err
	}
	n := searchablePace * max(3, int(o.length/time.Second)*o.rounds)
	tick := time.NewTicker(time.Second / searchablePace)
	defer tick.Stop()
	type answer struct {
		took time.Duration
		err  error
	}
	answers := make(chan answer, n)
	for i := range n {
		<-tick.C
		go func() {
			took, err := searchable(ctx, api, p.collection, fmt.Sprint("number ", i))
			answers <- answer{took, err}
		}()
	}
	var took []time.Duration
	for range n {
		a := <-answers
		if a.err != nil {
			return a.err
		}
		took = append(took, a.took)
	}
	slices.Sort(took)
	p50, p99 := took[n/2], took[n*99/100]
	var given50, given99 float64
	err = p.own.QueryRow(ctx, `SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
		FROM items i JOIN item_index_state s ON s.item_id = i.id CROSS JOIN LATERAL (SELECT 1000 * extract(epoch FROM s.indexed_at - i.created_at)::float8) AS took (ms)
		WHERE i.title LIKE 'number %'`).Scan(&given50, &given99)
	if err != nil {
		return fmt.Errorf("ask when the index was given the items: %w", err)
	}
	r.note(fmt.Sprintf("write → the index was given it: p50 %.0f ms, p99 %.0f ms; the rest is Elasticsearch's refresh", given50, given99))
	r.limit(fmt.Sprintf("write → searchable, refresh every second, %d writes", n), fmt.Sprintf("p50 %.0f ms, p99 %.0f ms", ms(p50), ms(p99)), p99 < searchableLimit, "p99 < 1500 ms")
	return nil
}

// indexFilled waits until the indexer knows that the index is whole.
func (p *platformBundle) indexFilled(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var filled bool
		err := p.own.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM search_indices WHERE alias = $1 AND filled_at IS NOT NULL)", p.alias).Scan(&filled)
		if err != nil || filled {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// searchable writes an item and waits until a search finds it.
func searchable(ctx context.Context, api *client.ClientWithResponses, collection uuid.UUID, title string) (time.Duration, error) {
	begin := time.Now()
	item, err := api.CreateItemWithResponse(ctx, nil, client.CreateItemJSONRequestBody{CollectionID: collection, Title: title, Content: "content"})
	if err != nil || item.JSON201 == nil {
		return 0, fmt.Errorf("create an item: %s: %w", item.Body, err)
	}
	wait, limit := fmt.Sprintf("%s:%d", item.JSON201.ID, item.JSON201.Version), client.Limit(1)
	for range 6 { // each waits for 10 s
		found, err := api.SearchWithResponse(ctx, &client.SearchParams{WaitFor: &wait, Limit: &limit})
		if err != nil || found.JSON200 == nil {
			return 0, fmt.Errorf("search: %s: %w", found.Body, err)
		}
		if found.JSON200.Fresh != nil && *found.JSON200.Fresh && !found.JSON200.Degraded {
			return time.Since(begin), nil
		}
	}
	return 0, errors.New("an item was not searchable within a minute")
}

func dropAlias(ctx context.Context, es *elasticsearch.Client, alias string) {
	state, err := elastic.ObserveIndex(ctx, es, alias)
	if err != nil {
		return
	}
	for name := range state.Indices {
		if res, err := es.Indices.Delete([]string{name}, es.Indices.Delete.WithContext(ctx)); err == nil {
			_ = res.Body.Close()
		}
	}
	if res, err := es.Indices.DeleteIndexTemplate(elastic.TemplateName(alias), es.Indices.DeleteIndexTemplate.WithContext(ctx)); err == nil {
		_ = res.Body.Close()
	}
}
