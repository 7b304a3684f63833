package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/atlas-platform/atlas/internal/telemetry"
	"github.com/atlas-platform/atlas/internal/transfer"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// problemBase starts the stable name of every problem.
const problemBase = "urn:atlas:problem:"

// problem is an error that knows its answer.
type problem struct {
	status int
	kind   string
	title  string
	detail string
	fields []gen.FieldError
	header map[string]string
}

// with adds headers to the answer.
func (p *problem) with(header map[string]string) *problem {
	out := *p
	out.header = maps.Clone(header)
	maps.Copy(out.header, p.header)
	return &out
}

func (p *problem) Error() string { return fmt.Sprintf("%d %s: %s", p.status, p.kind, p.detail) }

func badRequest(detail string, fields ...gen.FieldError) *problem {
	return &problem{status: http.StatusBadRequest, kind: "invalid-request", title: "The request is malformed", detail: detail, fields: fields}
}

func unprocessable(fields ...gen.FieldError) *problem {
	return &problem{
		status: http.StatusUnprocessableEntity, kind: "validation", title: "The request is not valid", detail: describe(fields), fields: fields,
	}
}

func unauthenticated(challenge, detail string) *problem {
	return &problem{
		status: http.StatusUnauthorized, kind: "unauthenticated", title: "Authentication is needed", detail: detail,
		header: map[string]string{"WWW-Authenticate": challenge},
	}
}

func forbidden(detail string) *problem {
	return &problem{status: http.StatusForbidden, kind: "forbidden", title: "You may not do this", detail: detail}
}

// needsRole is the answer to a member whose role does not suffice.
func needsRole(have string, need ...gen.Role) *problem {
	names := make([]string, len(need))
	for i, role := range need {
		names[i] = string(role)
	}
	return forbidden(fmt.Sprintf("your role is %s; this needs %s", have, strings.Join(names, " or ")))
}

func notFound(detail string) *problem {
	return &problem{status: http.StatusNotFound, kind: "not-found", title: "Not found", detail: detail}
}

func conflict(kind, detail string) *problem {
	return &problem{status: http.StatusConflict, kind: kind, title: "It conflicts with what is there", detail: detail}
}

// gone is the answer to a request for what was there.
func gone(detail string) *problem {
	return &problem{status: http.StatusGone, kind: "gone", title: "It is not there any more", detail: detail}
}

// noObjectStore is the answer where files can't be kept. It is about the request, as no repetition of it helps.
func noObjectStore() *problem {
	return &problem{status: http.StatusUnprocessableEntity, kind: "no-object-store", title: "There is no object store", detail: transfer.NoStore}
}

func rangeNotSatisfiable(size int64) *problem {
	return &problem{
		status: http.StatusRequestedRangeNotSatisfiable, kind: "range-not-satisfiable", title: "There is no such part", detail: fmt.Sprintf("the file has %d bytes", size),
		header: map[string]string{"Content-Range": fmt.Sprintf("bytes */%d", size)},
	}
}

func methodNotAllowed(c *gin.Context) *problem {
	return &problem{
		status: http.StatusMethodNotAllowed, kind: "method-not-allowed", title: "Method not allowed",
		detail: fmt.Sprintf("%s is not possible here; Allow names what is", c.Request.Method),
	}
}

func notAcceptable(offers []string) *problem {
	return &problem{
		status: http.StatusNotAcceptable, kind: "not-acceptable", title: "No answer is acceptable",
		detail: "this operation answers with " + strings.Join(offers, " or ") + ", which the Accept header rules out",
	}
}

func preconditionFailed(version int64) *problem {
	return &problem{
		status: http.StatusPreconditionFailed, kind: "precondition-failed", title: "It was changed meanwhile",
		detail: fmt.Sprintf("the current version is %d (ETag %s)", version, etag(version)),
	}
}

func tooLarge(limit int64) *problem {
	return &problem{
		status: http.StatusRequestEntityTooLarge, kind: "payload-too-large", title: "The body is too large",
		detail: fmt.Sprintf("a body may have at most %d bytes", limit),
	}
}

func tooSlow() *problem {
	return &problem{status: http.StatusRequestTimeout, kind: "request-timeout", title: "The request took too long", detail: "the body did not arrive in time"}
}

// unsupportedMediaType tells what would be accepted: in the field that each cause has (RFC 9110, 12.5.3 and 15.5.16; RFC 5789, 3.1).
func unsupportedMediaType(method string, accepted []string, encoded bool) *problem {
	field, value := "Accept", strings.Join(accepted, ", ")
	switch {
	case encoded:
		field, value = "Accept-Encoding", "identity"
	case method == http.MethodPatch:
		field = "Accept-Patch"
	}
	return &problem{
		status: http.StatusUnsupportedMediaType, kind: "unsupported-media-type", title: "Unsupported media type",
		detail: "send the body in UTF-8, without Content-Encoding, as Content-Type: " + strings.Join(accepted, " or "),
		header: map[string]string{field: value},
	}
}

func tooManyAttempts(seconds int) *problem {
	return &problem{
		status: http.StatusTooManyRequests, kind: "too-many-attempts", title: "Too many attempts",
		detail: fmt.Sprintf("there were too many attempts at a password: try again in %d s", seconds),
		header: map[string]string{"Retry-After": strconv.Itoa(seconds)},
	}
}

func tooManyTransfers() *problem {
	return &problem{
		status: http.StatusTooManyRequests, kind: "too-many-transfers", title: "Too many imports and exports",
		detail: fmt.Sprintf("%d imports and exports of yours are going on: try again when one has ended", maxOwnTransfers),
		header: map[string]string{"Retry-After": "10"},
	}
}

func tooManyWatchers() *problem {
	return &problem{
		status: http.StatusTooManyRequests, kind: "too-many-streams", title: "Too many streams",
		detail: fmt.Sprintf("you are watching %d jobs: stop watching one first", maxOwnWatchers), header: map[string]string{"Retry-After": "10"},
	}
}

func unavailable(detail string) *problem {
	return &problem{
		status: http.StatusServiceUnavailable, kind: "unavailable", title: "Not available right now", detail: detail,
		header: map[string]string{"Retry-After": "2"},
	}
}

var errInternal = problem{status: http.StatusInternalServerError, kind: "internal", title: "Something went wrong", detail: "see the logs for trace_id"}

// pointed is a field error in the body.
func pointed(pointer, message string) gen.FieldError {
	return gen.FieldError{Pointer: &pointer, Message: message}
}

// parameter is a field error in a query parameter, path parameter or header.
func parameter(name, message string) gen.FieldError {
	return gen.FieldError{Parameter: &name, Message: message}
}

func describe(fields []gen.FieldError) string {
	parts := make([]string, len(fields))
	for i, field := range fields {
		switch {
		case field.Pointer != nil && *field.Pointer != "":
			parts[i] = *field.Pointer + " " + field.Message
		case field.Parameter != nil:
			parts[i] = *field.Parameter + " " + field.Message
		default:
			parts[i] = "the body " + field.Message
		}
	}
	return strings.Join(parts, "; ")
}

// errAnswer marks what went wrong while an answer was written.
var errAnswer = errors.New("write the answer")

// toProblem finds the answer to any error. Whatever it does not know is the server's fault.
func toProblem(err error) (_ *problem, known bool) {
	var p *problem
	var postgresError *pgconn.PgError
	var connectError *pgconn.ConnectError
	var networkError *net.OpError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errAnswer) && errors.As(err, &networkError):
		// The caller hung up: nobody reads this. The status, nginx's, keeps it apart in the metrics.
		return &problem{status: 499, kind: "cancelled", title: "The caller hung up"}, true
	case errors.As(err, &p):
		return p, p.status < http.StatusInternalServerError
	case errors.Is(err, context.DeadlineExceeded):
		return unavailable("the request took too long"), false
	case errors.As(err, &connectError), errors.As(err, &networkError), errors.Is(err, io.ErrUnexpectedEOF):
		return unavailable("the database can't be reached"), false
	case errors.As(err, &postgresError) && transient(postgresError.Code):
		return unavailable("the database asks to try again"), false
	default:
		internal := errInternal
		return &internal, false
	}
}

// transient tells whether the same statement may succeed later: connection trouble, a shutdown, no free slots, a lost race.
func transient(sqlState string) bool {
	switch {
	case strings.HasPrefix(sqlState, "08"), strings.HasPrefix(sqlState, "53"), strings.HasPrefix(sqlState, "57P"):
		return true
	default:
		return sqlState == "40001" || sqlState == "40P01" || sqlState == "55P03" // serialization failure, deadlock, lock timeout
	}
}

// body is the problem as it is sent; instance is the path that was asked for.
func (p *problem) body(ctx context.Context, instance string) gen.Problem {
	body := gen.Problem{
		Type: problemBase + p.kind, Title: p.title, Status: p.status, TraceID: telemetry.TraceFrom(ctx).ID, Instance: &instance,
	}
	if p.detail != "" {
		body.Detail = &p.detail
	}
	if len(p.fields) > 0 {
		body.Errors = &p.fields
	}
	return body
}

// fail answers with the error's problem and ends the request.
func (s *server) fail(c *gin.Context, err error) {
	ctx := c.Request.Context()
	var stored *replay
	if errors.As(err, &stored) {
		stored.send(c)
		return
	}
	p, known := toProblem(err)
	if !known {
		s.logger.ErrorContext(ctx, "request failed", slog.String("route", c.FullPath()), slog.Int("status", p.status), slog.Any("error", err))
	}
	c.Abort()
	if c.Writer.Written() {
		return
	}
	body := p.body(ctx, c.Request.URL.Path)
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false) // for people who read it in a terminal; browsers are told not to sniff
	if err := encoder.Encode(body); err != nil {
		s.logger.ErrorContext(ctx, "encode a problem", slog.Any("error", err))
	}
	for name, value := range p.header {
		if before := c.Writer.Header().Get(name); before != "" && strings.HasPrefix(name, "RateLimit") {
			value += ", " + before // each names its quotas
		}
		c.Header(name, value)
	}
	c.Data(p.status, "application/problem+json", content.Bytes())
}

// recover turns a panic into an answer, so that one request can't end the process.
func (s *server) recover(c *gin.Context) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(cause)
		}
		s.logger.ErrorContext(c.Request.Context(), "a handler panicked", slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
		problem := errInternal
		s.fail(c, &problem)
	}()
	c.Next()
}
