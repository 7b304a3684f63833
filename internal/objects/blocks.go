package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	blockSize = 512 << 10
	// maxBlocks is how many of them are in memory: 8 MiB.
	maxBlocks = 16
)

// Blocks reads one version of an object at any place, as an archive is read: back and forth, mostly close to where it was read before. It is for one
// goroutine.
type Blocks struct {
	reader *Reader
	blocks []block // the one that was used last is the last
	err    error
}

type block struct {
	number  int64
	content []byte
}

var _ io.ReaderAt = (*Blocks)(nil)

// NewBlocks makes a reader of the version that info speaks of.
func NewBlocks(ctx context.Context, store Store, info Info) *Blocks {
	return &Blocks{reader: NewReader(ctx, store, info)}
}

// ReadAt implements io.ReaderAt.
func (f *Blocks) ReadAt(b []byte, at int64) (n int, err error) {
	if at < 0 {
		return 0, errors.New("read before the beginning of a file")
	}
	for n < len(b) {
		content, err := f.block(at / blockSize)
		if err != nil {
			return n, err
		}
		skip := at % blockSize
		if skip >= int64(len(content)) {
			return n, io.EOF
		}
		m := copy(b[n:], content[skip:])
		n, at = n+m, at+int64(m)
	}
	return n, nil
}

func (f *Blocks) block(number int64) ([]byte, error) {
	if i := slices.IndexFunc(f.blocks, func(b block) bool { return b.number == number }); i >= 0 {
		found := f.blocks[i]
		f.blocks = append(slices.Delete(f.blocks, i, i+1), found)
		return found.content, nil
	}
	start := number * blockSize
	length := min(blockSize, f.reader.info.Size-start)
	if length <= 0 {
		return nil, nil
	}
	content := make([]byte, 0, blockSize)
	if len(f.blocks) == maxBlocks {
		content = f.blocks[0].content[:0]
		f.blocks = slices.Delete(f.blocks, 0, 1)
	}
	content = content[:length]
	if _, err := f.reader.Seek(start, io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(f.reader, content); err != nil {
		f.err = fmt.Errorf("read a part of a file: %w", err)
		return nil, f.err
	}
	f.blocks = append(f.blocks, block{number, content})
	return content, nil
}

// Err is why the object could not be read at some time; nil when it always could. Who reads an archive may take it for a damaged one.
func (f *Blocks) Err() error { return f.err }

// Close lets go of the object.
func (f *Blocks) Close() error { return f.reader.Close() }
