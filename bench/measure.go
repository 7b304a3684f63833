package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// itemBytes is the length of an item's content, and scaleBytes of those that only have to be many: a page does not show it.
const (
	itemBytes  = 1000
	scaleBytes = 100
)

// to is a source of requests to the API.
func (p *platformBundle) to(want int, next func() []byte) source {
	return source{p.address, want, next}
}

func (p *platformBundle) anyItem() uuid.UUID {
	return p.items[rand.IntN(len(p.items))] //nolint:gosec // which item does not matter
}

func measureRead(ctx context.Context, o options, p *platformBundle, r *report) error {
	q := db.New(p.own)
	bare := loop("bare pgx", func(ctx context.Context) error {
		row, err := q.GetItem(ctx, p.user, &p.session, p.anyItem())
		if err == nil && !row.CallerCounts {
			err = errors.New("the session does not count")
		}
		return err
	})
	atlas := requests("GET /v1/items/{id}", p.to(http.StatusOK, func() []byte { return get("/v1/items/"+p.anyItem().String(), p.accessToken) }))
	return r.compare(ctx, o, 0.5, atlas, bare)
}

func measureCreate(ctx context.Context, o options, p *platformBundle, r *report) error {
	atlas := requests("POST /v1/items", p.to(http.StatusCreated, func() []byte {
		body, _ := json.Marshal(map[string]any{ // strings and UUIDs: always encodable
			"collection_id": p.collection, "title": "A new item", "content": content(), "tags": threeTags(),
		})
		return post("/v1/items", p.accessToken, body)
	}))
	return r.compare(ctx, o, 0.55, atlas, loop("bare pgx, one statement", bareCreate(p)))
}

func threeTags() []string {
	n := rand.IntN(100) //nolint:gosec // which tags does not matter
	return []string{"tag-" + strconv.Itoa(n), "tag-" + strconv.Itoa((n+31)%100), "tag-" + strconv.Itoa((n+62)%100)}
}

func content() string {
	return strings.Repeat("lorem ipsum dolor sit amet "+strconv.Itoa(rand.IntN(1e6))+" ", itemBytes/30) //nolint:gosec // any text
}

// bareCreate is what has to be in a transaction: rights, item, tags and event, in one statement.
func bareCreate(p *platformBundle) func(ctx context.Context) error {
	const statement = `WITH target AS (
			SELECT c.id FROM collections c JOIN memberships m ON m.collection_id = c.id AND m.user_id = $2
			WHERE c.id = $3 AND c.deleted_at IS NULL AND m.role IN ('owner', 'editor') FOR SHARE OF c
		), item AS (
			INSERT INTO items (id, collection_id, title, content, created_by, updated_by) SELECT $1, target.id, $4, $5, $2, $2 FROM target
		), tagged AS (
			INSERT INTO item_tags (item_id, tag_id) SELECT $1, t.id FROM tags t WHERE t.collection_id = $3 AND t.name = ANY ($6)
		)
		INSERT INTO outbox (event_id, aggregate_id, payload, traceparent) VALUES ($7, $1, $8, $9)`
	return func(ctx context.Context) error {
		id, event := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
		payload, err := json.Marshal(map[string]any{
			"event_id": event, "event_type": "ItemCreated", "version": 1, "occurred_at": time.Now(), "actor_user_id": p.user, "trace_id": event,
			"entity": map[string]any{"type": "Item", "id": id, "collection_id": p.collection},
			"data":   map[string]any{"item_id": id, "collection_id": p.collection, "entity_version": 1, "changed_fields": []string{"title", "content", "tags"}},
		})
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		tag, err := p.bare.Exec(ctx, statement, id, p.user, p.collection, "A new item", content(), threeTags(), event, payload,
			"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
		if err == nil && tag.RowsAffected() != 1 {
			return fmt.Errorf("%d rows written", tag.RowsAffected())
		}
		return err
	}
}

// measureList compares with the rival: the ceiling is another stack.
func measureList(ctx context.Context, o options, p *platformBundle, r *report) error {
	path := "/v1/items?limit=20&collection_id=" + p.collection.String()
	atlas := requests("GET /v1/items (20)", p.to(http.StatusOK, func() []byte { return get(path, p.accessToken) }))
	if o.python == "" {
		r.note("GET /v1/items: no rival without --python")
		return r.compare(ctx, o, 0, atlas)
	}
	address, rivalToken, err := p.startRival(ctx, o.python)
	if err != nil {
		return err
	}
	rival := requests("FastAPI, asyncpg, 2 workers", source{address, http.StatusOK, func() []byte { return get(path, rivalToken) }})
	return r.compare(ctx, o, 3, atlas, rival)
}

func (p *platformBundle) startRival(ctx context.Context, python string) (address, token string, err error) {
	address, err = freeAddress(ctx)
	if err != nil {
		return "", "", err
	}
	port := address[strings.LastIndex(address, ":")+1:]
	// Ended by stop with SIGTERM, which makes uvicorn end its workers.
	p.rival = exec.CommandContext(context.WithoutCancel(ctx), python, "-m", "uvicorn", "app:app", "--app-dir", "bench/fastapi", "--port", port, //nolint:gosec // a flag
		"--workers", "2", "--log-level", "error", "--no-access-log")
	p.rival.Env = append(os.Environ(), "DATABASE_URL="+p.bareURL, "JWT_SECRET=bench-secret-of-32-bytes-or-more!", "USER_ID="+p.user.String())
	p.rival.Stdout, p.rival.Stderr = os.Stderr, os.Stderr
	if err := p.rival.Start(); err != nil {
		return "", "", fmt.Errorf("start the rival: %w", err)
	}
	if err := waitFor(ctx, "http://"+address+"/token"); err != nil {
		return "", "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/token", nil)
	if err != nil {
		return "", "", fmt.Errorf("make a request: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", "", fmt.Errorf("ask the rival for a token: %w", err)
	}
	defer answer.Body.Close()
	var body struct {
		Token string `json:"token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return "", "", fmt.Errorf("decode the rival's token: %w", err)
	}
	return address, body.Token, nil
}

// measureMemory keeps the API busy with everything at once and reports its largest resident set.
func measureMemory(ctx context.Context, o options, p *platformBundle, r *report) error {
	large, err := json.Marshal(map[string]any{"collection_id": p.collection, "title": "A large item", "content": strings.Repeat("large text ", 20_000)})
	if err != nil {
		return fmt.Errorf("encode a large item: %w", err)
	}
	busy := slices.Repeat([]source{
		p.to(http.StatusOK, func() []byte { return get("/v1/items?limit=100", p.accessToken) }),
		p.to(http.StatusOK, func() []byte { return get("/v1/items/"+p.anyItem().String(), p.accessToken) }),
		p.to(http.StatusOK, func() []byte { return get("/v1/search?facets=tags&q=lorem", p.accessToken) }),
		p.to(http.StatusCreated, func() []byte { return post("/v1/items", p.accessToken, large) }),
	}, o.connections/4+1)
	peak, err := watchMemory(p.process.Process.Pid, func() error {
		_, err := exchange(ctx, 4*o.length, busy)
		return err
	})
	if err != nil {
		return err
	}
	r.limit("RSS of the API under full load", fmt.Sprintf("%.0f MiB", mib(peak)), mib(peak) <= 150, "150 MiB")
	return nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// watchMemory returns the largest resident set of a process while work runs.
func watchMemory(pid int, work func() error) (int64, error) {
	var peak atomic.Int64
	done := make(chan struct{})
	watched := make(chan error, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			now, err := residentBytes(pid)
			if err != nil {
				watched <- err
				return
			}
			peak.Store(max(peak.Load(), now))
			select {
			case <-done:
				watched <- nil
				return
			case <-tick.C:
			}
		}
	}()
	err := work()
	close(done)
	if watchErr := <-watched; err == nil {
		err = watchErr
	}
	return peak.Load(), err
}

// measureSmallExport and measureExport export a number of items and ten times as many, each from an API that has done nothing else.
func measureSmallExport(ctx context.Context, o options, p *platformBundle, r *report) (err error) {
	p.exportPeak, err = p.exportFresh(ctx, o, r)
	return err
}

func measureExport(ctx context.Context, o options, p *platformBundle, r *report) error {
	if o.exported == 0 {
		return nil
	}
	if err := p.growTo(ctx, o.exported, itemBytes); err != nil {
		return err
	}
	peak, err := p.exportFresh(ctx, o, r)
	r.limit("RSS while exporting, many items beside few", fmt.Sprintf("%.0f MiB, %.0f MiB", mib(peak), mib(p.exportPeak)), mib(peak) <= mib(p.exportPeak)+32, "constant")
	return err
}

func (p *platformBundle) exportFresh(ctx context.Context, o options, r *report) (peak int64, err error) {
	if err := p.restartAPI(ctx, o); err != nil {
		return 0, err
	}
	begin, lines := time.Now(), 0
	peak, err = watchMemory(p.process.Process.Pid, func() (err error) {
		lines, err = p.export(ctx)
		return err
	})
	r.note(fmt.Sprintf("export of %d items: %.1f s, RSS at most %.0f MiB", lines, time.Since(begin).Seconds(), mib(peak)))
	return peak, err
}

func (p *platformBundle) export(ctx context.Context) (lines int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/v1/collections/"+p.collection.String()+"/items.ndjson", nil)
	if err != nil {
		return 0, fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+p.accessToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("export: status %s", answer.Status)
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := answer.Body.Read(buffer)
		lines += bytes.Count(buffer[:n], []byte("\n"))
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, fmt.Errorf("read the export: %w", err)
		}
	}
}

// growTo adds items until the own database has this many.
func (p *platformBundle) growTo(ctx context.Context, items, bytes int) error {
	var have int
	if err := p.own.QueryRow(ctx, "SELECT count(*) FROM items WHERE deleted_at IS NULL").Scan(&have); err != nil {
		return fmt.Errorf("count the items: %w", err)
	}
	if have >= items {
		return nil
	}
	from := p.seeded
	p.seeded += items - have
	return p.seed(ctx, p.own, from, p.seeded, bytes)
}

// measureFew and measureMany show that a page costs the same however many items there are: the first page, and one in the middle.
func measureFew(ctx context.Context, o options, p *platformBundle, r *report) (err error) {
	p.few, err = p.pages(ctx, o, r, o.items)
	return err
}

func measureMany(ctx context.Context, o options, p *platformBundle, r *report) error {
	if o.scaleTo == 0 {
		return nil
	}
	if err := p.growTo(ctx, o.scaleTo, scaleBytes); err != nil {
		return err
	}
	many, err := p.pages(ctx, o, r, o.scaleTo)
	for i, now := range many {
		before := p.few[i].p99
		r.limit("p99 of the "+pageNames[i]+", many items beside few", fmt.Sprintf("%.2f ms, %.2f ms", ms(now.p99), ms(before)),
			now.p99 < before*3/2+time.Millisecond, "no growth")
	}
	return err
}

var pageNames = []string{"first page", "middle page"}

// pages measures the first and the middle page with few connections: latencies mean nothing while requests queue for the processors.
func (p *platformBundle) pages(ctx context.Context, o options, r *report, items int) ([]result, error) {
	middle, err := p.middlePage(ctx)
	if err != nil {
		return nil, err
	}
	var out []result
	for i, path := range []string{"/v1/items?limit=20&collection_id=" + p.collection.String(), middle} {
		request := get(path, p.accessToken)
		warm := o
		warm.rounds = 1 // caches are filled, so that the first figure is not for being the first
		if _, err := compare(ctx, warm, 4, requests(path, p.to(http.StatusOK, func() []byte { return request }))); err != nil {
			return nil, err
		}
		measured, err := compare(ctx, o, 4, requests(path, p.to(http.StatusOK, func() []byte { return request })))
		if err != nil {
			return nil, err
		}
		now := measured[0]
		r.note(fmt.Sprintf("%s of %d items: p50 %.2f ms, p99 %.2f ms, %.0f/s with 4 connections", pageNames[i], items, ms(now.p50), ms(now.p99), now.perSecond))
		out = append(out, now)
	}
	return out, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// middlePage is the path of a page in the middle of the list. It is found by time, which needs no walk through all the pages before it.
func (p *platformBundle) middlePage(ctx context.Context) (string, error) {
	var at time.Time
	err := p.own.QueryRow(ctx, `SELECT created_at FROM items WHERE deleted_at IS NULL ORDER BY id
		OFFSET (SELECT count(*) / 2 FROM items WHERE deleted_at IS NULL) LIMIT 1`).Scan(&at)
	if err != nil {
		return "", fmt.Errorf("find the middle: %w", err)
	}
	query := url.Values{"limit": {"20"}, "collection_id": {p.collection.String()}, "created_before": {at.UTC().Format(time.RFC3339Nano)}}
	return "/v1/items?" + query.Encode(), nil
}
