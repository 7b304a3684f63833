package main

import (
	"context"
	"crypto/md5" //nolint:gosec // ids, not secrets
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The made-up trail: one event every trailStep from trailBegin on. Some collections, actors and entities have very many events, most have few.
const (
	trailStep        = 3 * time.Second
	trailCollections = 10_000
	trailActors      = 1_000
	trailLimit       = 50 * time.Millisecond
	trailConnections = 1 // latencies mean nothing while requests queue for the processors
)

func trailBegin() time.Time { return time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC) }

// measureTrail asks the audit trail's endpoint about a large trail, each kind of question with values that have very many events and with such that
// have hardly any: the first page of 100 and a late one, as the owner of collections and as a platform admin.
func measureTrail(ctx context.Context, o options, p *platformBundle, r *report) error {
	if o.trail == 0 {
		return nil
	}
	begin := time.Now()
	if err := p.fillTrail(ctx, o.trail); err != nil {
		return fmt.Errorf("fill the trail: %w", err)
	}
	r.note(fmt.Sprintf("filled a trail of %d events in %s", o.trail, time.Since(begin).Round(time.Second)))
	values, kinds := trailValues(o.trail), 0
	for _, admin := range []bool{false, true} {
		if _, err := p.own.Exec(ctx, "UPDATE users SET is_admin = $2 WHERE id = $1", p.user, admin); err != nil {
			return fmt.Errorf("change the user: %w", err)
		}
		who := "owner"
		if admin {
			who = "admin"
		}
		for _, question := range trailQuestions() {
			if !admin && question[0] != "collection_id" { // which is required
				continue
			}
			if err := p.askTrail(ctx, o, r, who, question, values); err != nil {
				return err
			}
			kinds++
		}
	}
	r.note(fmt.Sprintf("audit trail of %d events: %d kinds of questions, pages of 100, %d connection", o.trail, kinds, trailConnections))
	return nil
}

func trailQuestions() [][]string {
	return [][]string{
		{"collection_id"},
		{"collection_id", "event_type"},
		{"collection_id", "window"},
		{"collection_id", "event_type", "window"},
		{"collection_id", "actor_user_id"},
		{"collection_id", "actor_user_id", "event_type", "window"},
		{"collection_id", "entity_id"},
		{"collection_id", "entity_id", "actor_user_id"},
		{"nothing"},
		{"event_type"},
		{"window"},
		{"event_type", "window"},
		{"actor_user_id"},
		{"actor_user_id", "event_type"},
		{"actor_user_id", "window"},
		{"entity_id"},
		{"entity_id", "event_type"},
		{"entity_id", "actor_user_id"},
		{"entity_id", "actor_user_id", "event_type", "window"},
	}
}

// trailOwned are the ranks of the collections that are asked about: the first has very many events.
func trailOwned() []int { return []int{0, 1, 100, 3_000, trailCollections - 1} }

// trailValues are what each filter is asked with.
func trailValues(rows int) map[string][]url.Values {
	each := func(name string, values ...string) (out []url.Values) {
		for _, v := range values {
			out = append(out, url.Values{name: {v}})
		}
		return out
	}
	ids := func(kind string, ranks ...int) (out []string) {
		for _, n := range ranks {
			sum := md5.Sum([]byte(kind + strconv.Itoa(n))) //nolint:gosec // as the statement makes them
			out = append(out, uuid.UUID(sum).String())
		}
		return out
	}
	entities := rows / 5
	out := map[string][]url.Values{
		"nothing":       {{}},
		"event_type":    each("event_type", "ItemUpdated", "ItemCreated", "JobUpdated", "MembershipAdded", "CollectionDeleted"),
		"actor_user_id": each("actor_user_id", ids("actor", 0, 1, 30, 300, trailActors-1)...),
		"collection_id": each("collection_id", ids("collection", trailOwned()...)...),
		"entity_id":     each("entity_id", ids("entity", 0, 1, 10, entities/100, entities/2, entities-1)...),
	}
	for _, length := range []int{1_200, rows / 50, rows / 2} { // an hour; a week of a year; half of it
		for _, from := range []int{0, rows / 3, rows - length} {
			out["window"] = append(out["window"], url.Values{
				"from": {trailBegin().Add(time.Duration(from) * trailStep).Format(time.RFC3339)},
				"to":   {trailBegin().Add(time.Duration(from+length) * trailStep).Format(time.RFC3339)},
			})
		}
	}
	return out
}

// askTrail measures one kind of question with all combinations of its filters' values in turns.
func (p *platformBundle) askTrail(ctx context.Context, o options, r *report, who string, question []string, values map[string][]url.Values) error {
	asked := []url.Values{{}}
	for _, filter := range question {
		var more []url.Values
		for _, a := range asked {
			for _, v := range values[filter] {
				both := url.Values{}
				maps.Copy(both, a)
				maps.Copy(both, v)
				more = append(more, both)
			}
		}
		asked = more
	}
	var first, late [][]byte
	for _, a := range asked {
		a.Set("limit", "100")
		first = append(first, get("/v1/audit-events?"+a.Encode(), p.accessToken))
		path, err := p.latePage(ctx, o, a)
		if err != nil {
			return err
		}
		if path != "" {
			late = append(late, get(path, p.accessToken))
		}
	}
	name := "audit trail, " + who + ": " + strings.Join(question, ", ")
	figure, holds := "", true
	for i, pages := range [][][]byte{first, late} {
		if len(pages) == 0 {
			figure += "; no late page"
			continue
		}
		var turn atomic.Int64
		measured, err := compare(ctx, o, trailConnections, requests(name, p.to(http.StatusOK, func() []byte {
			return pages[int(turn.Add(1))%len(pages)]
		})))
		if err != nil {
			return err
		}
		figure += fmt.Sprintf("%s page p50 %.1f ms, p99 %.1f ms", []string{"first", "; late"}[i], ms(measured[0].p50), ms(measured[0].p99))
		holds = holds && measured[0].p99 < trailLimit
	}
	r.limit(name, figure, holds, fmt.Sprintf("p99 < %d ms", trailLimit.Milliseconds()))
	return nil
}

// latePage is a page of the trail's oldest tenth, or the second page of a window, by its cursor; empty where there is none. The place is found by
// time, which needs no walk through all the pages before it.
func (p *platformBundle) latePage(ctx context.Context, o options, question url.Values) (string, error) {
	question = maps.Clone(question)
	if question.Get("to") == "" {
		question.Set("to", trailBegin().Add(trailStep*time.Duration(o.trail/10)).Format(time.RFC3339))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/v1/audit-events?"+question.Encode(), nil)
	if err != nil {
		return "", fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+p.accessToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask the trail: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask the trail: %s", answer.Status)
	}
	var page struct {
		NextCursor string `json:"next_cursor"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&page); err != nil {
		return "", fmt.Errorf("read a page of the trail: %w", err)
	}
	if page.NextCursor == "" {
		return "", nil
	}
	question.Set("cursor", page.NextCursor)
	return "/v1/audit-events?" + question.Encode(), nil
}

// fillTrail makes the rows, without the indexes that pages are found by: they are made afterwards, which is quicker. The chain is made up.
func (p *platformBundle) fillTrail(ctx context.Context, rows int) error {
	conn, err := p.own.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer func() { // its settings go with it
		_ = conn.Conn().Close(context.WithoutCancel(ctx))
		conn.Release()
	}()
	indexes, err := conn.Query(ctx, `SELECT c.relname::text, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE i.indrelid = 'audit_events'::regclass AND NOT i.indisunique`)
	if err != nil {
		return fmt.Errorf("list the indexes: %w", err)
	}
	type index struct{ Name, Definition string }
	lacking, err := pgx.CollectRows(indexes, pgx.RowToStructByPos[index])
	if err != nil {
		return fmt.Errorf("list the indexes: %w", err)
	}
	statements := []string{
		"SET session_replication_role = replica", "SET synchronous_commit = off", "SET maintenance_work_mem = '512MB'", "SELECT setseed(0.5)",
	}
	for _, i := range lacking {
		statements = append(statements, "DROP INDEX "+pgx.Identifier{i.Name}.Sanitize())
	}
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	const chunk = 500_000
	for from := 0; from < rows; from += chunk {
		if _, err := conn.Exec(ctx, trailRows, from, min(from+chunk, rows)-1, rows/5, trailBegin(), trailActors, trailCollections); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
	}
	statements = nil
	for _, i := range lacking {
		statements = append(statements, i.Definition)
	}
	statements = append(statements, "VACUUM (ANALYZE) audit_events")
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	// The caller owns the collections that are asked about.
	_, err = conn.Exec(ctx, `WITH c AS (
			INSERT INTO collections (id, name, created_by) SELECT md5('collection' || n)::uuid, 'trail ' || n, $1 FROM unnest($2::int[]) AS n RETURNING id
		) INSERT INTO memberships (id, collection_id, user_id, role) SELECT gen_random_uuid(), c.id, $1, 'owner' FROM c`, p.user, trailOwned())
	return err
}

// trailRows makes the rows $1 to $2. An entity belongs to one collection, and one event in a hundred is from when it was in another. The higher the
// power, the more have the first.
const trailRows = `INSERT INTO audit_events (event_id, event_type, version, occurred_at, actor_user_id, trace_id, traceparent, entity_type, entity_id,
		collection_id, data, kafka_partition, kafka_offset, chain_position, previous_hash, hash, recorded_at)
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(sum, 1, 3) || '8' || substr(sum, 4, 15))::uuid, type, 1, at,
		CASE WHEN b > 0.03 THEN md5('actor' || floor($5::int * c ^ 4))::uuid END, sum, '00-' || sum || '-b7ad6b7169203331-00',
		CASE WHEN type ~ '^Job' THEN 'Job' WHEN type ~ '^Item' THEN 'Item' WHEN type ~ '^Coll' THEN 'Collection' ELSE 'Membership' END,
		md5('entity' || entity)::uuid, md5('collection' || floor($6::int * (CASE WHEN d < 0.01 THEN d * 100 ELSE home END) ^ 4))::uuid,
		jsonb_build_object('item_id', md5('entity' || entity)::uuid, 'entity_version', n, 'changed_fields', '["title", "content"]'::jsonb),
		100 + n % 3, n, n / 3 + 1, decode(sum || sum, 'hex'), decode(sum || sum, 'hex'), at + interval '1 second'
	FROM (
		SELECT *, (hashint8(entity)::bigint + 2147483648) / 4294967296.0::float8 AS home FROM (
			SELECT *, floor($3::int * a ^ 3)::bigint AS entity, md5('event' || n) AS sum, $4::timestamptz + n * interval '3 seconds' AS at,
				CASE WHEN n % 1000000 = 77 THEN 'CollectionDeleted' WHEN t < 0.6 THEN 'ItemUpdated' WHEN t < 0.85 THEN 'ItemCreated'
					WHEN t < 0.92 THEN 'ItemDeleted' WHEN t < 0.96 THEN 'JobUpdated' WHEN t < 0.98 THEN 'JobCreated' WHEN t < 0.99 THEN 'MembershipAdded'
					WHEN t < 0.995 THEN 'MembershipRoleChanged' WHEN t < 0.997 THEN 'MembershipRemoved' WHEN t < 0.999 THEN 'CollectionCreated'
					ELSE 'CollectionUpdated' END AS type
			FROM (SELECT n, random() AS a, random() AS b, random() AS c, random() AS d, random() AS t FROM generate_series($1::bigint, $2::bigint) AS n OFFSET 0) AS r
		) AS s
	) AS e`
