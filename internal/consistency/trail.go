package consistency

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// entity is an aggregate as PostgreSQL has it, and told is what the trail tells of it.
type (
	entity = db.CheckEntitiesByIDRow
	told   = db.CheckTrailRow
)

// Audit compares PostgreSQL with the audit trail: every published event of the outbox has its row, and every version of an item, a collection or
// a membership has exactly one; of a job, every state.
func (c *Checker) Audit(ctx context.Context, opts Options) (*Report, error) {
	opts = opts.withDefaults()
	check := &auditCheck{Checker: c, opts: opts, report: &Report{StartedAt: time.Now().UTC()}, found: newFindings(opts.Limit)}
	check.entities = suspects[uuid.UUID]{opts: opts, look: check.lookEntities, confirmed: check.entitiesConfirmed, undecided: &check.report.Undecided}
	check.events = suspects[int64]{opts: opts, look: check.lookEvents, confirmed: check.eventsConfirmed, undecided: &check.report.Undecided}
	err := check.compareOutbox(ctx)
	if err == nil {
		err = check.compareEntities(ctx)
	}
	check.report.Differences, check.report.Seconds = check.found.list(), time.Since(check.report.StartedAt).Seconds()
	return check.report, err
}

type auditCheck struct {
	*Checker
	opts     Options
	report   *Report
	found    *findings
	entities suspects[uuid.UUID]
	events   suspects[int64] // by their place in the outbox
}

// compareEntities goes through the entities and those of the trail, both in the order of ids.
func (c *auditCheck) compareEntities(ctx context.Context) error {
	entities, trail := &stream[entity]{page: c.entityPages()}, &stream[uuid.UUID]{page: c.trailPages()}
	for {
		group := make(map[uuid.UUID]*entity, pageSize)
		for len(group) < pageSize {
			e, err := entities.peek(ctx)
			if err != nil {
				return err
			}
			id, err := trail.peek(ctx)
			if err != nil {
				return err
			}
			if e == nil && id == nil {
				break
			}
			var order int
			switch {
			case e == nil:
				order = 1
			case id == nil:
				order = -1
			default:
				order = bytes.Compare(e.ID[:], id[:])
			}
			if order <= 0 {
				taken := *e
				group[e.ID] = &taken
				entities.skip()
			} else {
				group[*id] = nil
			}
			if order >= 0 {
				trail.skip()
			}
		}
		if len(group) == 0 {
			return c.entities.decide(ctx)
		}
		if err := c.compareGroup(ctx, group); err != nil {
			return err
		}
		c.report.Checked.Entities += int64(len(group))
		c.opts.Progress("audit trail", c.report.Checked.Entities)
	}
}

func (c *auditCheck) compareGroup(ctx context.Context, group map[uuid.UUID]*entity) error {
	ids := make([]uuid.UUID, 0, len(group))
	for id := range group {
		ids = append(ids, id)
	}
	trail, err := c.told(ctx, ids)
	if err != nil {
		return err
	}
	start, err := c.queries.CheckTrailStart(ctx) // after the trail: what is pruned meanwhile counts as pruned
	if err != nil {
		return fmt.Errorf("read the audit segments: %w", err)
	}
	for _, id := range ids {
		if len(judgeTrail(group[id], trail[id], start)) > 0 {
			if err := c.entities.add(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *auditCheck) entityPages() func(ctx context.Context) ([]entity, error) {
	after := uuid.Nil
	return func(ctx context.Context) ([]entity, error) {
		rows, err := c.queries.CheckEntities(ctx, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("read entities: %w", err)
		}
		out := make([]entity, len(rows))
		for i, row := range rows {
			out[i], after = entity(row), row.ID
		}
		return out, nil
	}
}

func (c *auditCheck) trailPages() func(ctx context.Context) ([]uuid.UUID, error) {
	after := uuid.Nil
	return func(ctx context.Context) ([]uuid.UUID, error) {
		ids, err := c.queries.CheckTrailEntities(ctx, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("read the audit trail: %w", err)
		}
		if len(ids) > 0 {
			after = ids[len(ids)-1]
		}
		return ids, nil
	}
}

func (c *auditCheck) told(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*told, error) {
	rows, err := c.queries.CheckTrail(ctx, versioned, ids)
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	out := make(map[uuid.UUID]*told, len(rows))
	for i := range rows {
		out[rows[i].EntityID] = &rows[i]
	}
	return out, nil
}

// versioned are the events that carry a version: all that this program knows.
var versioned = []string{
	string(event.CollectionCreated), string(event.CollectionUpdated), string(event.CollectionDeleted), string(event.MembershipAdded),
	string(event.MembershipRoleChanged), string(event.MembershipRemoved), string(event.ItemCreated), string(event.ItemUpdated), string(event.ItemDeleted),
	string(event.JobCreated), string(event.JobUpdated),
}

// judgeTrail says what is wrong with what the trail tells of an entity; either may be missing. What was recorded until start may have been
// exported and pruned.
func judgeTrail(e *entity, t *told, start time.Time) []finding {
	switch {
	case t == nil && e != nil && !e.UpdatedAt.After(start):
		return nil // all of it may have left the trail
	case t == nil && (e == nil || e.Version < e.FirstVersion):
		return nil // the trail has events of it, but none of a version: of a type that this program does not know
	case t == nil:
		return []finding{{AuditStale, fmt.Sprintf("%s: no audit row for versions %d to %d", e.EntityType, e.FirstVersion, e.Version)}}
	case e == nil:
		return judgeErased(t, start)
	case t.Unversioned > 0:
		return []finding{{AuditExtra, fmt.Sprintf("%s: audit rows without a version: %d", e.EntityType, t.Unversioned)}}
	case e.EntityType == string(event.EntityJob):
		return judgeJob(e, t, start)
	}
	var out []finding
	if t.FirstVersion > e.FirstVersion && e.CreatedAt.After(start) {
		out = append(out, finding{AuditGap, fmt.Sprintf("%s: no audit row for versions %d to %d", e.EntityType, e.FirstVersion, t.FirstVersion-1)})
	}
	if t.Gaps > 0 {
		out = append(out, finding{AuditGap, fmt.Sprintf("%s: gaps: %d, the first at version %d", e.EntityType, t.Gaps, t.FirstGap)})
	}
	if t.Repeats > 0 {
		out = append(out, finding{AuditRepeat, fmt.Sprintf("%s: repeated versions: %d, the first is %d", e.EntityType, t.Repeats, t.FirstRepeat)})
	}
	if t.LastVersion < e.Version {
		out = append(out, finding{AuditStale, fmt.Sprintf("%s: no audit row for versions %d to %d", e.EntityType, t.LastVersion+1, e.Version)})
	}
	if t.LastVersion > e.Version {
		out = append(out, finding{AuditExtra, fmt.Sprintf("%s: audit row for version %d, it has version %d", e.EntityType, t.LastVersion, e.Version)})
	}
	return out
}

// judgeJob: progress gives a job versions without an event, its states have one each.
func judgeJob(e *entity, t *told, start time.Time) []finding {
	attempt, _ := strconv.Atoi(t.LastAttempt) // JobCreated says 0 or nothing
	switch {
	case t.LastVersion > e.Version:
		return []finding{{AuditExtra, fmt.Sprintf("Job: audit row for version %d, it has version %d", t.LastVersion, e.Version)}}
	case t.FirstVersion > e.FirstVersion && e.CreatedAt.After(start):
		return []finding{{AuditGap, fmt.Sprintf("Job: no audit row before version %d", t.FirstVersion)}}
	case t.Repeats > 0:
		return []finding{{AuditRepeat, fmt.Sprintf("Job: repeated versions: %d, the first is %d", t.Repeats, t.FirstRepeat)}}
	case t.Attempts < int64(e.Attempt) && e.CreatedAt.After(start):
		return []finding{{AuditGap, fmt.Sprintf("Job: it was attempted %d times, and the audit rows tell of %d", e.Attempt, t.Attempts)}}
	case t.LastState != e.State || attempt != int(e.Attempt):
		return []finding{{AuditStale, fmt.Sprintf("Job: the last audit row says %s, attempt %d; it is %s, attempt %d", t.LastState, attempt, e.State, e.Attempt)}}
	}
	return nil
}

// judgeErased: what is gone for good was deleted first, which the trail tells; what belonged to a collection went with it without a word.
func judgeErased(t *told, start time.Time) []finding {
	kind := event.EntityType(t.EntityType)
	if t.FirstVersion > 1 && start.Equal(time.Unix(0, 0)) && (kind == event.EntityItem || kind == event.EntityCollection) {
		return []finding{{AuditExtra, fmt.Sprintf("%s: the first audit row is of version %d, and there is no such entity", t.EntityType, t.FirstVersion)}}
	}
	switch event.Type(t.LastType) {
	case event.ItemDeleted, event.CollectionDeleted, event.MembershipRemoved:
		return nil
	}
	switch kind {
	case event.EntityItem, event.EntityCollection:
	case event.EntityJob:
		if !t.CollectionLives || jobs.Ended(t.LastState) {
			return nil // the janitor removes finished jobs
		}
	case event.EntityMembership:
		if !t.CollectionLives {
			return nil
		}
	default: // of a type that this program does not know
		return nil
	}
	return []finding{{AuditExtra, fmt.Sprintf("%s: the last audit row is %s of version %d, and there is no such entity", t.EntityType, t.LastType, t.LastVersion)}}
}

func (c *auditCheck) lookEntities(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]verdict, error) {
	trail, err := c.told(ctx, ids)
	if err != nil {
		return nil, err
	}
	start, err := c.queries.CheckTrailStart(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the audit segments: %w", err)
	}
	refused, err := c.queries.CheckDeadLetters(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the outbox's dead letters: %w", err)
	}
	rows, err := c.queries.CheckEntitiesByID(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read entities: %w", err)
	}
	unpublished, err := c.queries.CheckUnpublished(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	byID := make(map[uuid.UUID]*entity, len(rows))
	for i := range rows {
		byID[rows[i].ID] = &rows[i]
	}
	verdicts := make(map[uuid.UUID]verdict, len(ids))
	for _, id := range ids {
		v := verdict{findings: judgeTrail(byID[id], trail[id], start), onTheWay: slices.Contains(unpublished, id)}
		if byID[id] != nil {
			v.version = byID[id].Version
		}
		if slices.Contains(refused, id) {
			v.blame(deadLettered)
		}
		verdicts[id] = v
	}
	return verdicts, nil
}

func (c *auditCheck) entitiesConfirmed(_ context.Context, wrong map[uuid.UUID]verdict) error {
	for id, v := range wrong {
		for _, f := range v.findings {
			c.found.add(id.String(), f)
		}
	}
	return nil
}
