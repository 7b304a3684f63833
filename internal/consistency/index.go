package consistency

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/elastic"
	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// item is what decides about an item's document.
type item = db.CheckItemsByIDRow

// Index compares the items with the index's documents.
func (c *Checker) Index(ctx context.Context, opts Options) (*Report, error) {
	if c.es == nil {
		return nil, errNoIndex
	}
	opts = opts.withDefaults()
	check := &indexCheck{Checker: c, opts: opts, report: &Report{StartedAt: time.Now().UTC()}, found: newFindings(opts.Limit)}
	check.suspects = suspects[string]{opts: opts, look: check.look, confirmed: check.confirmed, undecided: &check.report.Undecided}
	err := check.run(ctx)
	check.report.Differences, check.report.Seconds = check.found.list(), time.Since(check.report.StartedAt).Seconds()
	return check.report, err
}

type indexCheck struct {
	*Checker
	opts     Options
	report   *Report
	found    *findings
	suspects suspects[string]
	deep     []uuid.UUID // items whose contents are to be compared
}

func (c *indexCheck) run(ctx context.Context) error {
	// What was changed by hand just now is seen, too.
	if err := elastic.Refresh(ctx, c.es, c.alias); err != nil {
		return err
	}
	pit, err := c.openDocuments(ctx)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		pit.close(closing)
	}()
	if err := c.merge(ctx, &stream[document]{page: pit.page}, &stream[item]{page: c.itemPages()}); err != nil {
		return err
	}
	if err := c.compareContents(ctx); err != nil {
		return err
	}
	return c.suspects.decide(ctx)
}

// merge goes through both sides in the order of ids. Documents that can't be of an item are out of this order, and suspect.
func (c *indexCheck) merge(ctx context.Context, docs *stream[document], items *stream[item]) error {
	for n := 0; ; n++ {
		doc, err := docs.peek(ctx)
		if err != nil {
			return err
		}
		row, err := items.peek(ctx)
		if err != nil {
			return err
		}
		if n%pageSize == 0 {
			c.opts.Progress("index", c.report.Checked.Items)
		}
		var id string
		var atDoc, atRow bool
		switch {
		case doc == nil && row == nil:
			return nil
		case doc != nil && !doc.proper():
			id, atDoc = doc.ID, true
			row = nil
		case row == nil:
			id, atDoc = doc.ID, true
		case doc == nil:
			id, atRow = row.ID.String(), true
		default:
			id = row.ID.String()
			order := strings.Compare(doc.ID, id)
			atDoc, atRow = order <= 0, order >= 0
			id = min(id, doc.ID)
		}
		if atDoc {
			docs.skip()
			c.report.Checked.Documents++
		} else {
			doc = nil
		}
		if atRow {
			items.skip()
			c.report.Checked.Items++
		} else {
			row = nil
		}
		if err := c.pair(ctx, id, row, doc); err != nil {
			return err
		}
	}
}

// pair takes one id's two sides, of which one may be missing.
func (c *indexCheck) pair(ctx context.Context, id string, row *item, doc *document) error {
	var seen *stored
	if doc != nil {
		seen = &stored{Found: true, ID: doc.ID, Version: doc.Version}
	}
	if (doc != nil && !doc.proper()) || len(judgeDocument(row, seen)) > 0 {
		return c.suspects.add(ctx, id)
	}
	if c.opts.Deep && doc != nil {
		c.deep = append(c.deep, row.ID)
		if len(c.deep) >= pageSize {
			return c.compareContents(ctx)
		}
	}
	return nil
}

func (c *indexCheck) itemPages() func(ctx context.Context) ([]item, error) {
	after := uuid.Nil
	return func(ctx context.Context) ([]item, error) {
		rows, err := c.queries.CheckItems(ctx, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("read items: %w", err)
		}
		items := make([]item, len(rows))
		for i, row := range rows {
			items[i], after = item(row), row.ID
		}
		return items, nil
	}
}

// judgeDocument says what is wrong with an item's document; either may be missing.
func judgeDocument(row *item, doc *stored) []finding {
	switch {
	case doc == nil && (row == nil || row.Deleted):
		return nil
	case row != nil && row.Refused != "" && !row.Deleted && (doc == nil || doc.Version < row.Version):
		return []finding{{IndexRefused, fmt.Sprintf("version %d: %s", row.Version, row.Refused)}}
	case doc == nil:
		return []finding{{IndexMissing, fmt.Sprintf("version %d", row.Version)}}
	case row == nil:
		return []finding{{IndexExtra, fmt.Sprintf("version %d, no such item", doc.Version)}}
	case row.Deleted:
		return []finding{{IndexExtra, fmt.Sprintf("version %d, the item is deleted since version %d", doc.Version, row.Version)}}
	case doc.Version < row.Version:
		return []finding{{IndexStale, fmt.Sprintf("version %d, the item has version %d", doc.Version, row.Version)}}
	case doc.Version > row.Version:
		return []finding{{IndexAhead, fmt.Sprintf("version %d, the item has version %d", doc.Version, row.Version)}}
	case row.IndexedVersion < row.Version:
		return []finding{{IndexUnrecorded, fmt.Sprintf("version %d, recorded is version %d", row.Version, row.IndexedVersion)}}
	}
	return nil
}

// look is the second look at suspects: at each document as it is now, refreshed or not. The documents first: what changes between the two reads
// makes them look old, which the next look puts right, never new.
func (c *indexCheck) look(ctx context.Context, ids []string) (map[string]verdict, error) {
	docs, err := c.get(ctx, ids, false)
	if err != nil {
		return nil, err
	}
	items, err := c.rows(ctx, ids)
	if err != nil {
		return nil, err
	}
	unpublished, err := c.unpublished(ctx, ids)
	if err != nil {
		return nil, err
	}
	refused, err := c.queries.CheckDeadLetters(ctx, parseIDs(ids))
	if err != nil {
		return nil, fmt.Errorf("read the outbox's dead letters: %w", err)
	}
	different := map[string]bool{}
	if c.opts.Deep {
		if different, err = c.differing(ctx, wholly(ids, items, docs)); err != nil {
			return nil, err
		}
	}
	verdicts := make(map[string]verdict, len(ids))
	for _, id := range ids {
		row, doc := items[id], (*stored)(nil)
		if d, ok := docs[id]; ok {
			doc = &d
		}
		v := verdict{findings: judgeDocument(row, doc), onTheWay: unpublished[id]}
		if row != nil {
			v.version = row.Version
		}
		if doc != nil && row != nil && len(v.findings) == 0 {
			if key := doc.key(); key != id {
				v.findings = []finding{{IndexDifferent, fmt.Sprintf("version %d, the document's id is %q", row.Version, key)}}
			} else if different[id] {
				v.findings = []finding{{IndexDifferent, fmt.Sprintf("version %d", row.Version)}}
			}
		}
		if row != nil && slices.Contains(refused, row.ID) {
			v.blame(deadLettered)
		}
		verdicts[id] = v
	}
	return verdicts, nil
}

// wholly are the ids of which both sides are there.
func wholly(ids []string, items map[string]*item, docs map[string]stored) []uuid.UUID {
	var out []uuid.UUID
	for _, id := range ids {
		if _, there := docs[id]; there && items[id] != nil && !items[id].Deleted {
			out = append(out, items[id].ID)
		}
	}
	return out
}

func (c *indexCheck) rows(ctx context.Context, ids []string) (map[string]*item, error) {
	rows, err := c.queries.CheckItemsByID(ctx, parseIDs(ids))
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	out := make(map[string]*item, len(rows))
	for i := range rows {
		out[rows[i].ID.String()] = &rows[i]
	}
	return out, nil
}

func (c *indexCheck) unpublished(ctx context.Context, ids []string) (map[string]bool, error) {
	rows, err := c.queries.CheckUnpublished(ctx, parseIDs(ids))
	if err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	out := make(map[string]bool, len(rows))
	for _, id := range rows {
		out[id.String()] = true
	}
	return out, nil
}

// parseIDs leaves out what is no id.
func parseIDs(texts []string) []uuid.UUID {
	ids := make([]uuid.UUID, 0, len(texts))
	for _, text := range texts {
		if isID(text) {
			ids = append(ids, uuid.MustParse(text))
		}
	}
	return ids
}
