package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

const bulkPath = "/v1/items/bulk"

// bulkOperation is one operation of a bulk request: item is for a creation, the rest for what is there already.
type bulkOperation struct {
	place int
	op    string
	item  *gen.ItemCreate
	id    uuid.UUID
	match *string // as If-Match
	patch *gen.ItemPatch
}

// BulkItems implements gen.StrictServerInterface.
func (s *server) BulkItems(ctx context.Context, request gen.BulkItemsRequestObject) (gen.BulkItemsResponseObject, error) {
	operations, err := readOperations(request.Body.Operations)
	if err != nil {
		return nil, err
	}
	key, atomic := request.Params.IdempotencyKey, request.Body.Atomic != nil && *request.Body.Atomic
	if !atomic && key == nil {
		return s.eachAlone(ctx, operations), nil
	}
	return retried(ctx, func() (gen.BulkItemsResponseObject, error) {
		return writeOnceTx(ctx, s, key, request, gen.BulkItemsResponseObject.VisitBulkItemsResponse,
			func(tx pgx.Tx, q *db.Queries) (gen.BulkItemsResponseObject, error) {
				if err := lockOperands(ctx, q, operations); err != nil {
					return nil, err
				}
				if atomic {
					return s.allOrNothing(ctx, q, operations)
				}
				return s.eachInSavepoint(ctx, tx, operations)
			})
	})
}

func readOperations(unions []gen.BulkOperation) ([]bulkOperation, error) {
	operations := make([]bulkOperation, len(unions))
	for i, union := range unions {
		value, err := union.ValueByDiscriminator()
		if err != nil {
			return nil, unprocessable(pointed(fmt.Sprintf("/operations/%d", i), err.Error()))
		}
		operation := bulkOperation{place: i}
		var version *int64
		switch value := value.(type) {
		case gen.BulkCreate:
			operation.op, operation.item = value.Op, &value.Item
		case gen.BulkUpdate:
			operation.op, operation.id, operation.patch, version = value.Op, value.ID, &value.Patch, value.Version
		case gen.BulkDelete:
			operation.op, operation.id, version = value.Op, value.ID, value.Version
		}
		if version != nil {
			tag := etag(*version)
			operation.match = &tag
		}
		operations[i] = operation
	}
	return operations, nil
}

// lockOperands keeps two requests that change many of the same items from waiting for each other.
func lockOperands(ctx context.Context, q *db.Queries, operations []bulkOperation) error {
	var ids []uuid.UUID
	for _, operation := range operations {
		if operation.item == nil {
			ids = append(ids, operation.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := q.LockEditableItems(ctx, caller(ctx).id(), ids); err != nil {
		return fmt.Errorf("lock the items: %w", err)
	}
	return nil
}

// allOrNothing does the operations in the caller's transaction, which the first that fails ends.
func (s *server) allOrNothing(ctx context.Context, q *db.Queries, operations []bulkOperation) (gen.BulkItemsResponseObject, error) {
	results := make([]gen.BulkItemResult, len(operations))
	for i, operation := range operations {
		var err error
		if results[i], err = s.together(ctx, q, operation); err != nil {
			return nil, operation.located(err)
		}
	}
	return bulkAnswer(results), nil
}

// eachInSavepoint does each operation on its own, but commits them with the answer that is stored. What may go well another time ends everything:
// the stored answer would be given for a day.
func (s *server) eachInSavepoint(ctx context.Context, tx pgx.Tx, operations []bulkOperation) (gen.BulkItemsResponseObject, error) {
	results := make([]gen.BulkItemResult, len(operations))
	called := callOf(ctx)
	for i, operation := range operations {
		told := called.collections
		err := postgres.InTx(ctx, tx, func(savepoint pgx.Tx) (err error) {
			results[i], err = s.together(ctx, db.New(savepoint), operation)
			return err
		})
		if err == nil {
			continue
		}
		if p, known := toProblem(err); !known || p.status >= http.StatusInternalServerError {
			return nil, err
		}
		called.collections = told // the answer tells nothing about where the operation failed
		results[i] = s.failed(ctx, operation, err)
	}
	return bulkAnswer(results), nil
}

// eachAlone does the operations one by one, whatever becomes of the others.
func (s *server) eachAlone(ctx context.Context, operations []bulkOperation) gen.BulkItemsResponseObject {
	results := make([]gen.BulkItemResult, len(operations))
	for i, operation := range operations {
		var err error
		if results[i], err = s.alone(ctx, operation); err != nil {
			results[i] = s.failed(ctx, operation, err)
		}
	}
	return bulkAnswer(results)
}

// failed is the result of an operation that failed, with the problem that it would be answered on its own.
func (s *server) failed(ctx context.Context, operation bulkOperation, err error) gen.BulkItemResult {
	p, known := toProblem(operation.located(err))
	if !known {
		s.logger.ErrorContext(ctx, "an operation of a bulk request failed", slog.String("operation", operation.op), slog.Any("error", err))
	}
	body := p.body(ctx, bulkPath)
	result := gen.BulkItemResult{Op: operation.op, Status: p.status, Problem: &body}
	if operation.item == nil {
		result.ID = &operation.id
	}
	return result
}

// alone does an operation as the request for this one item does it.
func (s *server) alone(ctx context.Context, operation bulkOperation) (gen.BulkItemResult, error) {
	switch {
	case operation.item != nil:
		row, created, err := s.createItem(ctx, operation.item)
		return operation.created(ctx, row, created, err)
	case operation.patch != nil:
		row, err := s.updateItem(ctx, operation.id, operation.match, operation.patch)
		return operation.done(ctx, http.StatusOK, row.ID, row.CollectionID, row.Version, err)
	default:
		head, err := s.deleteItem(ctx, operation.id, operation.match)
		return operation.done(ctx, http.StatusNoContent, head.ID, head.CollectionID, head.Version, err)
	}
}

// together does an operation in a transaction with others.
func (s *server) together(ctx context.Context, q *db.Queries, operation bulkOperation) (gen.BulkItemResult, error) {
	switch {
	case operation.item != nil:
		row, created, err := s.createItemIn(ctx, q, operation.item)
		return operation.created(ctx, row, created, err)
	case operation.patch != nil:
		row, err := s.updateItemIn(ctx, q, operation.id, operation.match, operation.patch)
		return operation.done(ctx, http.StatusOK, row.ID, row.CollectionID, row.Version, err)
	default:
		head, err := s.deleteItemIn(ctx, q, operation.id, operation.match)
		return operation.done(ctx, http.StatusNoContent, head.ID, head.CollectionID, head.Version, err)
	}
}

func (o bulkOperation) created(ctx context.Context, row db.GetItemRow, created bool, err error) (gen.BulkItemResult, error) {
	status := http.StatusOK // another item has its source
	if created {
		status = http.StatusCreated
	}
	return o.done(ctx, status, row.ID, row.CollectionID, row.Version, err)
}

// done is the result of an operation that did not fail, which tells about an item of this collection.
func (o bulkOperation) done(ctx context.Context, status int, id, collection uuid.UUID, version int64, err error) (gen.BulkItemResult, error) {
	if err != nil {
		return gen.BulkItemResult{}, err
	}
	if called := callOf(ctx); !slices.Contains(called.collections, collection) {
		called.collections = append(called.collections, collection)
	}
	return gen.BulkItemResult{Op: o.op, Status: status, ID: &id, Version: &version}, nil
}

// located is the error of an operation as an error in the body of all operations. It names the operation at least.
func (o bulkOperation) located(err error) error {
	var p *problem
	if !errors.As(err, &p) {
		return err
	}
	at := fmt.Sprintf("/operations/%d", o.place)
	inside := at
	switch {
	case o.item != nil:
		inside += "/item"
	case o.patch != nil:
		inside += "/patch"
	}
	located := *p
	located.fields = under(inside, p.fields)
	switch {
	case len(p.fields) > 0:
	case p.status == http.StatusPreconditionFailed:
		located.fields = []gen.FieldError{pointed(at+"/version", p.detail)}
	default:
		located.fields = []gen.FieldError{pointed(at, p.detail)}
	}
	if len(p.fields) > 0 && p.detail == describe(p.fields) {
		located.detail = describe(located.fields)
	}
	if p.status < http.StatusInternalServerError {
		return &located
	}
	return fmt.Errorf("%w: %w", &located, err) // what is wrong here is told to the logs
}

func bulkAnswer(results []gen.BulkItemResult) gen.BulkItemsResponseObject {
	answer := gen.BulkItems200JSONResponse{Results: results}
	for _, result := range results {
		if result.Problem == nil {
			answer.Succeeded++
		} else {
			answer.Failed++
		}
	}
	return answer
}
