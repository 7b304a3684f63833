package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/atlas-platform/atlas/internal/pause"
)

const (
	// stall is how long a read may wait for its next bytes.
	stall = time.Minute
	// readTries is how often in a row an object is opened again where reading it broke off.
	readTries = 4
	readPause = 200 * time.Millisecond
)

// Reader reads one version of an object from any place. It opens the object when it has to, and again where a connection broke off.
type Reader struct {
	ctx     context.Context //nolint:containedctx // a reader has no other way to get one
	store   Store
	info    Info
	at      int64
	content io.ReadCloser
	cancel  context.CancelFunc
}

var _ io.ReadSeekCloser = (*Reader)(nil)

// NewReader makes a reader of the version that info speaks of. Close it.
func NewReader(ctx context.Context, store Store, info Info) *Reader {
	return &Reader{ctx: ctx, store: store, info: info}
}

// Read implements io.Reader. When the object is replaced meanwhile the error is ErrChanged, or ErrNotFound when it is removed.
func (r *Reader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for try := 1; ; try++ {
		if r.at >= r.info.Size {
			return 0, io.EOF
		}
		n, err := r.read(b)
		r.at += int64(n)
		switch {
		case n > 0:
			return n, nil
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF // there has to be more
		}
		_ = r.Close() // it is broken
		if err := r.ctx.Err(); err != nil {
			return 0, fmt.Errorf("read a file from the object store: %w", err)
		}
		if err != nil && (try == readTries || errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound)) {
			return 0, fmt.Errorf("read a file from the object store: %w", err)
		}
		_ = pause.For(r.ctx, time.Duration(try)*readPause) // the next try notices its end
	}
}

// read opens the object where it has to. A read that gets nothing for a while ends.
func (r *Reader) read(b []byte) (int, error) {
	if r.content == nil {
		var ctx context.Context
		ctx, r.cancel = context.WithCancel(r.ctx)
		guard := time.AfterFunc(stall, r.cancel)
		content, _, err := r.store.Open(ctx, r.info.Name, Range{Offset: r.at, ETag: r.info.ETag})
		guard.Stop()
		if err != nil {
			return 0, err
		}
		r.content = content
	}
	guard := time.AfterFunc(stall, r.cancel)
	defer guard.Stop()
	return r.content.Read(b)
}

// Seek implements io.Seeker. It costs nothing until the next read.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.info.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning of a file")
	}
	if offset != r.at {
		_ = r.Close() // it is opened again where it is needed
		r.at = offset
	}
	return offset, nil
}

// Close implements io.Closer. The reader can be used further.
func (r *Reader) Close() (err error) {
	if r.cancel != nil {
		r.cancel()
		r.cancel = nil
	}
	if r.content != nil {
		err = r.content.Close()
		r.content = nil
	}
	return err
}
