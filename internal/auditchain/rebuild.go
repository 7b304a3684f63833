package auditchain

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

// Rebuildable tells whether the chains can be written again from the topic: where the rows are gone and the heads are not, what is written would come
// after a gap, and be told of by every verification from then on.
func Rebuildable(ctx context.Context, pool *pgxpool.Pool) error {
	emptied, err := db.New(pool).EmptiedAuditPartitions(ctx)
	if err != nil {
		return fmt.Errorf("look at the heads of the audit trail: %w", err)
	}
	if len(emptied) > 0 {
		return fmt.Errorf("the audit trail has no rows of the partitions %v, but audit_heads tells where their chains end: new rows would come after a gap, "+
			"and `atlas audit verify` would miss those before it for ever; put a backup back, or clear the heads too, "+
			"as docs/operations.md says (\"A trail that was lost\")", emptied)
	}
	return nil
}
