package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// keyLifetime is how long the answer to a request with an Idempotency-Key is kept.
const keyLifetime = 24 * time.Hour

// replay is the stored answer to a request that was done before. As an error, it ends the transaction that found it.
type replay struct {
	status int
	header map[string]string
	body   []byte
}

func (r *replay) Error() string { return fmt.Sprintf("replay of a stored %d", r.status) }

// send answers as the request was answered the first time.
func (r *replay) send(c *gin.Context) {
	for name, value := range r.header {
		c.Header(name, value)
	}
	c.Header("Idempotency-Replayed", "true")
	c.Status(r.status)
	_, _ = c.Writer.Write(r.body) // the caller hung up, if at all
	c.Abort()
}

// writeOnce is server.write for a request that may carry an Idempotency-Key: the answer is stored in the transaction of the work, so that there
// are both or none, and an equal request waits for that transaction and gets the same answer, as long as the caller is a member of what it tells
// about. render is the method of R that writes the answer.
func writeOnce[R any](
	ctx context.Context, s *server, key *string, request any, render func(R, http.ResponseWriter) error, work func(q *db.Queries) (R, error),
) (answer R, err error) {
	return writeOnceTx(ctx, s, key, request, render, func(_ pgx.Tx, q *db.Queries) (R, error) { return work(q) })
}

// writeOnceTx is writeOnce for work that needs savepoints.
func writeOnceTx[R any](
	ctx context.Context, s *server, key *string, request any, render func(R, http.ResponseWriter) error,
	work func(tx pgx.Tx, q *db.Queries) (R, error),
) (answer R, err error) {
	err = s.writeTx(ctx, func(tx pgx.Tx, q *db.Queries) error {
		if key == nil {
			answer, err = work(tx, q)
			return err
		}
		hash, err := requestHash(request)
		if err != nil {
			return err
		}
		if err := claimKey(ctx, s, q, *key, hash); err != nil {
			return err
		}
		if answer, err = work(tx, q); err != nil {
			return err
		}
		var recorded recorder
		if err := render(answer, &recorded); err != nil {
			return fmt.Errorf("render the answer to store: %w", err)
		}
		return recorded.store(ctx, q, *key)
	})
	return answer, err
}

// claimKey returns a replay when the key was used for the same request.
func claimKey(ctx context.Context, s *server, q *db.Queries, key string, hash []byte) error {
	principal := caller(ctx).id()
	claimed, err := q.ClaimIdempotencyKey(ctx, db.ClaimIdempotencyKeyParams{
		Principal: principal, Key: key, RequestHash: hash, ExpiredBefore: s.now().Add(-keyLifetime),
	})
	if err != nil {
		return fmt.Errorf("claim the Idempotency-Key: %w", err)
	}
	if claimed > 0 {
		return nil
	}
	stored, err := q.GetIdempotentAnswer(ctx, principal, key)
	if err != nil {
		return fmt.Errorf("read the answer of an Idempotency-Key: %w", err)
	}
	if !bytes.Equal(stored.RequestHash, hash) {
		return keyReused("another request was made with this key: send this one with a new key")
	}
	if !stored.Visible {
		return notFound("this request was done before, and you may not see its answer any more")
	}
	answer := &replay{status: int(stored.Status), body: stored.Body}
	if err := json.Unmarshal(stored.Header, &answer.header); err != nil {
		return fmt.Errorf("decode the stored header: %w", err)
	}
	return answer
}

func keyReused(detail string) *problem {
	return &problem{
		status: http.StatusUnprocessableEntity, kind: "idempotency-key-reused", title: "The Idempotency-Key was used for another request",
		detail: detail, fields: []gen.FieldError{parameter("Idempotency-Key", "was used with another request")},
	}
}

// requestHash tells requests apart by operation, path, parameters and body.
func requestHash(request any) ([]byte, error) {
	content, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request of an Idempotency-Key: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%T %s", request, content))
	return sum[:], nil
}

// recorder keeps an answer instead of sending it.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = make(http.Header)
	}
	return r.header
}

func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(content []byte) (int, error) { return r.body.Write(content) }

func (r *recorder) store(ctx context.Context, q *db.Queries, key string) error {
	header := make(map[string]string, len(r.header))
	for name := range maps.Keys(r.header) {
		header[name] = r.header.Get(name)
	}
	encoded, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("encode the header to store: %w", err)
	}
	err = q.StoreIdempotentAnswer(ctx, db.StoreIdempotentAnswerParams{
		Principal: caller(ctx).id(), Key: key, Status: int32(r.status), Header: encoded, Body: r.body.Bytes(), //nolint:gosec // an HTTP status
		Collections: toldAbout(ctx, r.body.Bytes()),
	})
	if err != nil {
		return fmt.Errorf("store the answer of an Idempotency-Key: %w", err)
	}
	return nil
}

// toldAbout are the collections that an answer tells about: those of its path, of the events of the request, and those that the body names.
func toldAbout(ctx context.Context, body []byte) []uuid.UUID {
	told := slices.Clone(callOf(ctx).collections)
	if c, ok := ctx.(*gin.Context); ok && strings.HasPrefix(c.FullPath(), "/v1/collections/:id") {
		if id, err := uuid.Parse(c.Param("id")); err == nil {
			told = append(told, id)
		}
	}
	var value any
	if json.Unmarshal(body, &value) == nil { // an empty body names none
		told = namedCollections(value, told)
	}
	slices.SortFunc(told, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	told = slices.Compact(told)
	if told == nil {
		return []uuid.UUID{}
	}
	return told
}

// namedCollections walks an answer. What an item's metadata says is the user's own business.
func namedCollections(value any, found []uuid.UUID) []uuid.UUID {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			found = namedCollections(element, found)
		}
	case map[string]any:
		for name, element := range value {
			if text, ok := element.(string); ok && name == "collection_id" {
				if id, err := uuid.Parse(text); err == nil {
					found = append(found, id)
				}
			} else if name != "metadata" {
				found = namedCollections(element, found)
			}
		}
	}
	return found
}
