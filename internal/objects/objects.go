// Package objects keeps files in an object store: S3 and what speaks it, or a folder on a volume. A file is there whole or not at all, whatever happens
// while it is written.
package objects

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"time"
)

// Errors that callers decide on.
var (
	// ErrNotFound: there is no such object.
	ErrNotFound = errors.New("there is no such file in the object store")
	// ErrName: the name can't be an object's.
	ErrName = errors.New("is no name of a file: want segments of at most 255 letters, digits, '.', '_' and '-', separated by '/', each beginning with a letter or a digit")
	// ErrChanged: the object is not the one that was asked for any more.
	ErrChanged = errors.New("the file in the object store was replaced meanwhile")
	// ErrTooLarge: the store can't take so large an object.
	ErrTooLarge = errors.New("the file is too large for the object store")
)

// MaxName is how long a name may be, in bytes.
const MaxName = 512

// Store keeps objects. Its adapters are safe for concurrent use and pass one suite (conformance_test.go).
type Store interface {
	// Open returns the content of a range of the object; the caller closes it. Beyond the object's end there is nothing, which is no error.
	Open(ctx context.Context, name string, r Range) (io.ReadCloser, Info, error)
	// Create makes or replaces the object once content has ended with io.EOF. Anything else leaves what was there before. At no time is a part to be seen.
	// Where another version is there than the object may be made over, it is ErrChanged.
	Create(ctx context.Context, name string, content io.Reader, over Version) (Info, error)
	Stat(ctx context.Context, name string) (Info, error)
	// List tells the objects in a folder, "" or one that ends with "/", and in those below it, in no order. It ends after an error.
	List(ctx context.Context, folder string) iter.Seq2[Info, error]
	// Delete removes the object; one that is not there is removed already.
	Delete(ctx context.Context, name string) error
	// DropUnfinished removes what creations have left behind that were begun before a time and never ended, and returns how many there were.
	DropUnfinished(ctx context.Context, before time.Time) (int64, error)
}

// Version is a version of an object that may be replaced: the one with this ETag. Of several that replace the same version, one succeeds.
type Version string

const (
	// AnyVersion may be replaced, and there may be none.
	AnyVersion Version = "*"
	// NoVersion may be replaced: there may be none.
	NoVersion Version = ""
)

// Range is a part of an object.
type Range struct {
	Offset int64
	// Length is how many bytes there are at most; 0 means all.
	Length int64
	// ETag, when set, is that of the only version that is wanted; another one is ErrChanged.
	ETag string
}

// Info is what is known of an object.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time
	// ETag changes with the content. It has no quotes.
	ETag string
}

// CheckName returns ErrName for what can't be an object's name. What it lets through is safe as a path and in a URL.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName {
		return ErrName
	}
	for segment := range strings.SplitSeq(name, "/") {
		if !validSegment(segment) {
			return ErrName
		}
	}
	return nil
}

func validSegment(segment string) bool {
	for i := range len(segment) {
		switch c := segment[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return segment != "" && len(segment) < 256 // as file systems have it
}

// checkFolder is CheckName for what List may be asked.
func checkFolder(folder string) error {
	if folder == "" {
		return nil
	}
	name, ok := strings.CutSuffix(folder, "/")
	if !ok {
		return ErrName
	}
	return CheckName(name)
}
