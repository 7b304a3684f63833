package api

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// TransferCollection implements gen.StrictServerInterface. The new owner comes first, so that there is one at every moment.
func (s *server) TransferCollection(ctx context.Context, request gen.TransferCollectionRequestObject) (gen.TransferCollectionResponseObject, error) {
	return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.TransferCollectionResponseObject.VisitTransferCollectionResponse,
		func(q *db.Queries) (gen.TransferCollectionResponseObject, error) {
			if _, err := lockCollection(ctx, q, request.ID, gen.Owner); err != nil {
				return nil, err
			}
			heir, err := findAccount(ctx, q, request.Body.Email)
			if err != nil {
				return nil, err
			}
			if heir.ID == caller(ctx).id() {
				return nil, conflict("already-owner", "you own this collection already: name the account that takes it over")
			}
			at := s.now()
			if err := makeOwner(ctx, q, request.ID, heir.ID, at); err != nil {
				return nil, err
			}
			giver, err := getMember(ctx, q, request.ID, caller(ctx).id())
			if err != nil {
				return nil, err
			}
			if err := changeRole(ctx, q, &giver, gen.Editor, at); err != nil {
				return nil, err
			}
			row, err := countedCollection(ctx, q, request.ID)
			if err != nil {
				return nil, err
			}
			return gen.TransferCollection200JSONResponse(collectionBody(row)), nil
		})
}

// makeOwner makes the user an owner, whether a member yet or not.
func makeOwner(ctx context.Context, q *db.Queries, collection, user uuid.UUID, at time.Time) error {
	member, err := q.GetMember(ctx, collection, user)
	switch {
	case missing(err):
		_, err = addMember(ctx, q, collection, user, gen.Owner, at) // the collection is locked: nobody else can have added the user
		return err
	case err != nil:
		return fmt.Errorf("read the membership: %w", err)
	default:
		return changeRole(ctx, q, &member, gen.Owner, at)
	}
}
