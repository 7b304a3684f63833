package elastic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v5"
	"github.com/elastic/elastic-transport-go/v8/elastictransport"

	"github.com/atlas-platform/atlas/internal/pause"
)

// VersionType tells how Elasticsearch compares an action's version with the document's.
type VersionType string

const (
	// VersionExternal lets only a greater version in: for events, which may come late or twice.
	VersionExternal VersionType = "external"
	// VersionExternalGTE lets the same version in as well: for deletes and for rewriting a document from the truth.
	VersionExternalGTE VersionType = "external_gte"
)

// BulkAction writes or, without a Document, deletes one document.
type BulkAction struct {
	ID          string
	Version     int64
	VersionType VersionType
	Document    json.RawMessage
}

// BulkOutcome is what became of one action.
type BulkOutcome int

const (
	// BulkApplied means that the index has this version, or has no such document any more.
	BulkApplied BulkOutcome = iota
	// BulkSuperseded means that the index has a newer version, or this one already (409): nothing is left to do.
	BulkSuperseded
	// BulkRejected means that Elasticsearch will never take this document, for example because a field does not fit the mapping.
	BulkRejected
)

// BulkResult answers for one action, in the order of the actions.
type BulkResult struct {
	Outcome BulkOutcome
	// Reason is Elasticsearch's own for BulkRejected.
	Reason string
}

// ErrUnavailable means that Elasticsearch could not do its work now: away, overloaded, or without the index. Trying again may help.
var ErrUnavailable = errors.New("elasticsearch is not available")

// ErrNoAlias is an ErrUnavailable: there is no such alias, or no index behind it.
var ErrNoAlias = fmt.Errorf("%w: no such alias", ErrUnavailable)

const (
	defaultBulkBytes = 5 << 20
	bulkBusyTries    = 5
)

// BulkWriter writes batches synchronously. It exists because esutil.BulkIndexer drops a whole batch without a word about its items when one
// flush fails.
type BulkWriter struct {
	es       elastictransport.Interface
	alias    string
	maxBytes int
	busy     func()
}

// NewBulkWriter makes a writer to the alias. Whatever index is behind it gets what is written, somebody else's too: by the name of an index, a writer
// would go on in the old one when a rebuild has led the alias to the new one. maxBytes bounds the body of one request; 0 means 5 MiB.
func NewBulkWriter(es elastictransport.Interface, alias string, maxBytes int) *BulkWriter {
	if maxBytes <= 0 {
		maxBytes = defaultBulkBytes
	}
	return &BulkWriter{es: es, alias: alias, maxBytes: maxBytes, busy: func() {}}
}

// OnBusy has f called for each request that Elasticsearch was too busy for.
func (w *BulkWriter) OnBusy(f func()) { w.busy = f }

// Write applies the actions and returns one result for each. An error, which wraps ErrUnavailable unless ctx ended, means that some may not have
// been applied: with versions, all can be sent again. It waits a little while Elasticsearch says that it is busy.
func (w *BulkWriter) Write(ctx context.Context, actions []BulkAction) ([]BulkResult, error) {
	if slices.ContainsFunc(actions, func(a BulkAction) bool { return a.Document == nil }) {
		if err := w.requireAlias(ctx); err != nil {
			return nil, err
		}
	}
	results := make([]BulkResult, len(actions))
	for start := 0; start < len(actions); {
		end, size := start, 0
		for end < len(actions) && (end == start || size+lineBytes(&actions[end]) <= w.maxBytes) {
			size += lineBytes(&actions[end])
			end++
		}
		// A new one for each request: the transport may still read the last one when an answer came early.
		body, ends := make([]byte, 0, size), make([]int, end-start)
		for i := range ends {
			body = appendAction(body, &actions[start+i])
			ends[i] = len(body)
		}
		if err := w.writeChunk(ctx, actions[start:end], body, ends, results[start:end]); err != nil {
			return nil, err
		}
		start = end
	}
	return results, nil
}

// requireAlias fails when there is no alias. Elasticsearch heeds require_alias for writes only: without the alias's template, a versioned delete would
// create an index that has the alias's name.
func (w *BulkWriter) requireAlias(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "/_alias/"+w.alias, nil)
	if err != nil {
		return fmt.Errorf("make alias request: %w", err)
	}
	res, err := w.es.Perform(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	_ = res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNoAlias, w.alias)
	}
	return fmt.Errorf("%w: alias %s: status %d", ErrUnavailable, w.alias, res.StatusCode)
}

// lineBytes is about how long an action's lines are: enough for those of Atlas's own ids.
func lineBytes(a *BulkAction) int { return len(a.Document) + len(a.ID) + 100 }

// appendAction adds an action's one or two lines.
func appendAction(body []byte, a *BulkAction) []byte {
	if a.Document == nil {
		body = append(body, `{"delete":{"_id":`...)
	} else {
		body = append(body, `{"index":{"_id":`...)
	}
	body = appendName(body, a.ID)
	body = strconv.AppendInt(append(body, `,"version":`...), a.Version, 10)
	body = append(append(append(body, `,"version_type":"`...), a.VersionType...), `"}}`...)
	body = append(body, '\n')
	if a.Document != nil {
		body = append(append(body, a.Document...), '\n')
	}
	return body
}

// appendName quotes an id. Somebody else's may have any character.
func appendName(body []byte, id string) []byte {
	odd := func(r rune) bool { return r <= ' ' || r >= utf8.RuneSelf || r == '"' || r == '\\' }
	if strings.IndexFunc(id, odd) >= 0 {
		if quoted, err := json.Marshal(id); err == nil { // which a string never fails
			return append(body, quoted...)
		}
	}
	return append(append(append(body, '"'), id...), '"')
}

// writeChunk sends one request, again while Elasticsearch is busy, in halves when the body is too large for it. ends are where the actions end in
// body.
func (w *BulkWriter) writeChunk(ctx context.Context, actions []BulkAction, body []byte, ends []int, results []BulkResult) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval = 100 * time.Millisecond
	wait.Reset()
	for try := 1; ; try++ {
		status, err := w.send(ctx, actions, body, results)
		switch {
		case err == nil:
			return nil
		case status == http.StatusRequestEntityTooLarge && len(actions) > 1:
			half := len(actions) / 2
			cut := ends[half-1]
			if err := w.writeChunk(ctx, actions[:half], body[:cut], ends[:half], results[:half]); err != nil {
				return err
			}
			rest := slices.Clone(ends[half:])
			for i := range rest {
				rest[i] -= cut
			}
			return w.writeChunk(ctx, actions[half:], body[cut:], rest, results[half:])
		case status == http.StatusRequestEntityTooLarge:
			results[0] = BulkResult{Outcome: BulkRejected, Reason: fmt.Sprintf("the document of %d bytes is larger than Elasticsearch accepts", len(body))}
			return nil
		case status != http.StatusTooManyRequests:
			return err
		}
		w.busy()
		if try == bulkBusyTries {
			return err
		}
		if err := pause.For(ctx, wait.NextBackOff()); err != nil {
			return err
		}
	}
}

// send makes one request. status is that of the answer or of the first item that failed for a passing reason.
func (w *BulkWriter) send(ctx context.Context, actions []BulkAction, body []byte, results []BulkResult) (status int, err error) {
	// require_alias: writing must never create an index that has the alias's name.
	path := "/" + w.alias + "/_bulk?require_alias=true&filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("make bulk request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := w.es.Perform(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, fmt.Errorf("%w: bulk request: %w", ErrUnavailable, decodeIndexError(res))
	}
	var answer struct {
		Items []map[string]bulkItem `json:"items"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("%w: decode bulk answer: %w", ErrUnavailable, err)
	}
	if len(answer.Items) != len(actions) {
		return 0, fmt.Errorf("%w: bulk answer has %d items for %d actions", ErrUnavailable, len(answer.Items), len(actions))
	}
	for i, byOperation := range answer.Items {
		for _, item := range byOperation { // exactly one
			result, ok := item.result(actions[i].Document == nil)
			if !ok && item.Status == http.StatusNotFound {
				return item.Status, fmt.Errorf("%w: %s: %s", ErrNoAlias, w.alias, item.reason())
			}
			if !ok {
				return item.Status, fmt.Errorf("%w: item answered %d: %s", ErrUnavailable, item.Status, item.reason())
			}
			results[i] = result
		}
	}
	return http.StatusOK, nil
}

type bulkItem struct {
	Status int        `json:"status"`
	Error  *bulkError `json:"error"`
}

type bulkError struct {
	Type     string     `json:"type"`
	Reason   string     `json:"reason"`
	CausedBy *bulkError `json:"caused_by"`
}

// aboutIndex tells whether a bad request is the index's fault, not the document's: somebody will mend it.
func (e *bulkError) aboutIndex() bool {
	return e.Type == "index_closed_exception" || strings.Contains(e.Reason, "no write index")
}

// result returns false for a failure that may pass.
func (i bulkItem) result(isDelete bool) (BulkResult, bool) {
	switch {
	case i.Status < http.StatusBadRequest:
		return BulkResult{Outcome: BulkApplied}, true
	case i.Status == http.StatusConflict:
		return BulkResult{Outcome: BulkSuperseded}, true
	case i.Status == http.StatusNotFound && isDelete && i.Error == nil:
		return BulkResult{Outcome: BulkApplied}, true // there was no such document; with an error, there is no such index
	case i.Error != nil && i.Error.aboutIndex():
		return BulkResult{}, false
	case i.Status == http.StatusBadRequest || i.Status == http.StatusRequestEntityTooLarge:
		return BulkResult{Outcome: BulkRejected, Reason: i.reason()}, true
	}
	return BulkResult{}, false
}

func (i bulkItem) reason() string {
	if i.Error == nil {
		return "status " + strconv.Itoa(i.Status)
	}
	text := i.Error.Type + ": " + i.Error.Reason
	for cause := i.Error.CausedBy; cause != nil; cause = cause.CausedBy {
		text += ": " + cause.Reason
	}
	return text
}
