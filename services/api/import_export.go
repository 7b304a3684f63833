package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/atlas-platform/atlas/internal/portable"
)

const (
	// transferTimeout bounds an import or export as a whole.
	transferTimeout = time.Hour
	// transferPause is how long one may take for the next transferStep bytes, or for one batch. Who is slower is cut off.
	transferPause = 30 * time.Second
	transferStep  = 64 << 10

	// maxTransfers is how many imports and exports one API does at the same time, and maxOwnTransfers how many of them for one user. Each takes
	// some 20 MiB of memory, and an import of a zip as much disk as it is large.
	maxTransfers    = 8
	maxOwnTransfers = 2
)

// isTransfer tells the requests that may take long.
func isTransfer(c *gin.Context) bool {
	return slices.ContainsFunc([]string{"/items.ndjson", "/items.zip", "/files", "/file"}, func(end string) bool { return strings.HasSuffix(c.FullPath(), end) })
}

// limitTransfers keeps imports and exports from taking all memory, whoever asks for them.
func (s *server) limitTransfers(c *gin.Context) {
	if !isTransfer(c) || c.Request.Method == http.MethodHead {
		return
	}
	user := caller(c.Request.Context()).id()
	switch own, all := s.transfers.try(user); {
	case own:
		s.fail(c, tooManyTransfers())
		return
	case all:
		s.fail(c, unavailable("too many imports and exports are going on: try again when one has ended"))
		return
	}
	defer s.transfers.leave(user)
	c.Next()
}

// pace moves the deadlines of a connection, which suit short requests, ahead of a transfer as long as that moves.
type pace struct {
	control *http.ResponseController
	// whole says that the request has been read. What is read then is whether the caller hangs up, and a deadline for that would end the request.
	whole bool
	moved int
	err   error // of the connection
}

func newPace(w http.ResponseWriter) *pace {
	p := &pace{control: http.NewResponseController(w)}
	p.extend()
	return p
}

// extend gives the caller, or a batch, the next while.
func (p *pace) extend() {
	p.moved = 0
	until := time.Now().Add(transferPause)
	_ = p.control.SetWriteDeadline(until.Add(transferPause)) // leaves time to answer to a body that does not come; not every connection has deadlines
	if p.whole {
		until = time.Now().Add(transferTimeout + transferPause)
	}
	_ = p.control.SetReadDeadline(until)
}

func (p *pace) step(n int) {
	if p.moved += n; p.moved >= transferStep {
		p.extend()
	}
}

// problem is the answer to a body that could not be read; nil when that is not what went wrong.
func (p *pace) problem(err error) *problem {
	var exceeded *http.MaxBytesError
	switch {
	case errors.As(err, &exceeded):
		return tooLarge(exceeded.Limit)
	case errors.Is(p.err, os.ErrDeadlineExceeded):
		return tooSlow()
	case p.err != nil && !errors.Is(p.err, io.EOF):
		return badRequest("the body could not be read to its end")
	}
	return nil
}

// pacedReader is a request's body.
type pacedReader struct {
	body io.Reader
	pace *pace
}

func (r pacedReader) Read(b []byte) (int, error) {
	n, err := r.body.Read(b)
	if err != nil {
		r.pace.err = err
		r.pace.whole = true
		r.pace.extend()
	} else {
		r.pace.step(n)
	}
	return n, err //nolint:wrapcheck // a reader returns io.EOF as it is
}

// pacedWriter is an answer.
type pacedWriter struct {
	answer io.Writer
	pace   *pace
}

func (w pacedWriter) Write(b []byte) (written int, err error) {
	for err == nil && written < len(b) {
		var n int
		n, err = w.answer.Write(b[written:min(written+transferStep, len(b))])
		written += n
		w.pace.step(n)
	}
	if err != nil {
		w.pace.err = err
	}
	return written, err //nolint:wrapcheck // it is the connection's
}

// attachment names the file that browsers and `curl -OJ` save an answer as (RFC 6266).
func attachment(name, extension string) string {
	slug := portable.Slug(name)
	if slug == "" {
		slug = "collection"
	}
	plain := strings.Trim(strings.Map(func(r rune) rune {
		if r > 0x7f {
			return -1
		}
		return r
	}, slug), "-")
	if plain == "" {
		plain = "collection"
	}
	return fmt.Sprintf(`attachment; filename="%s%s"; filename*=UTF-8''%s`, plain, extension, url.PathEscape(slug+extension))
}

// isHead tells whether only the header of an answer is asked for.
func isHead(ctx context.Context) bool {
	c, ok := ctx.(*gin.Context)
	return ok && c.Request.Method == http.MethodHead
}

// within gives one batch of a transfer the time of one request.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, requestTimeout)
}
