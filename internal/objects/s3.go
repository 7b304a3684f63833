package objects

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what S3 checks a transfer with
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// partSize is how much of an object is in memory while it is written. S3 takes 10,000 parts: 156 GiB.
	partSize = 16 << 20
	maxParts = 10_000
	// requestTimeout is how long a request that carries no more than a part may take.
	requestTimeout = 5 * time.Minute
	s3Retries      = 3
)

// s3 is a Store in a bucket, below a prefix.
type s3 struct {
	core           minio.Core
	bucket, prefix string
}

var _ Store = (*s3)(nil)

func openS3(at location, keys *credentials.Credentials) (*s3, error) {
	lookup := minio.BucketLookupAuto
	if at.pathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(at.endpoint, &minio.Options{
		Secure: at.secure, Region: at.region, BucketLookup: lookup, MaxRetries: s3Retries, Creds: keys,
	})
	if err != nil {
		return nil, fmt.Errorf("set up the client of the object store: %w", err)
	}
	client.SetAppInfo("atlas", "1")
	return &s3{core: minio.Core{Client: client}, bucket: at.bucket, prefix: at.prefix}, nil
}

// Open implements Store.
func (s *s3) Open(ctx context.Context, name string, r Range) (io.ReadCloser, Info, error) {
	if err := CheckName(name); err != nil {
		return nil, Info{}, err
	}
	var o minio.GetObjectOptions
	last := int64(0) // to the end
	if r.Length > 0 {
		last = r.Offset + r.Length - 1
	}
	if r.Offset > 0 || r.Length > 0 {
		if err := o.SetRange(r.Offset, last); err != nil {
			return nil, Info{}, fmt.Errorf("ask for a part of a file: %w", err)
		}
	}
	if r.ETag != "" {
		if err := o.SetMatchETag(r.ETag); err != nil {
			return nil, Info{}, fmt.Errorf("ask for a version of a file: %w", err)
		}
	}
	content, found, header, err := s.core.GetObject(ctx, s.bucket, s.prefix+name, o)
	if err != nil && minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return s.beyond(ctx, name, r)
	}
	if err != nil {
		return nil, Info{}, s3Error("open", err)
	}
	info := s.info(found)
	info.Name = name
	if _, total, ok := strings.Cut(header.Get("Content-Range"), "/"); ok {
		if size, err := strconv.ParseInt(total, 10, 64); err == nil {
			info.Size = size
		}
	}
	if r.ETag != "" && info.ETag != r.ETag { // not every store knows conditions
		return nil, info, errors.Join(ErrChanged, content.Close())
	}
	return content, info, nil
}

// beyond is the answer to a range without anything in it.
func (s *s3) beyond(ctx context.Context, name string, r Range) (io.ReadCloser, Info, error) {
	info, err := s.Stat(ctx, name)
	switch {
	case err != nil:
		return nil, info, err
	case r.ETag != "" && r.ETag != info.ETag:
		return nil, info, ErrChanged
	case r.Offset < info.Size:
		return nil, info, fmt.Errorf("the object store has %d bytes, and refuses those from %d on", info.Size, r.Offset)
	}
	return io.NopCloser(bytes.NewReader(nil)), info, nil
}

// Create implements Store. What has one part is one request; the others become an object when S3 is told that they are complete.
func (s *s3) Create(ctx context.Context, name string, content io.Reader, over Version) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	part := make([]byte, partSize)
	n, ended, err := fill(content, part)
	if err != nil {
		return Info{}, fmt.Errorf("write a file to the object store: %w", err)
	}
	if ended {
		if err := s.put(ctx, name, part[:n], over); err != nil {
			return Info{}, err
		}
		return s.Stat(ctx, name)
	}
	if err := s.parts(ctx, name, content, part, over); err != nil {
		return Info{}, err
	}
	return s.Stat(ctx, name)
}

func (s *s3) put(ctx context.Context, name string, content []byte, over Version) error {
	return s.replace(ctx, "write", over, func(ctx context.Context, options minio.PutObjectOptions) error {
		_, err := s.core.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(content), int64(len(content)), sum(content), "", options)
		return err //nolint:wrapcheck // replace does
	})
}

// replace sends the request that makes an object, under the condition that it replaces this version. Stores that know no conditions take it without.
func (s *s3) replace(ctx context.Context, doing string, over Version, send func(context.Context, minio.PutObjectOptions) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var options minio.PutObjectOptions
	switch over {
	case AnyVersion:
	case NoVersion:
		options.SetMatchETagExcept("*")
	default:
		options.SetMatchETag(string(over))
	}
	err := send(ctx, options)
	if over != AnyVersion && minio.ToErrorResponse(err).StatusCode == http.StatusNotImplemented {
		err = send(ctx, minio.PutObjectOptions{})
	}
	if err = s3Error(doing, err); errors.Is(err, ErrNotFound) && over != AnyVersion {
		return ErrChanged
	}
	return err
}

// parts uploads the first part, which is full, and what follows.
func (s *s3) parts(ctx context.Context, name string, content io.Reader, part []byte, over Version) (err error) {
	upload, err := s.core.NewMultipartUpload(ctx, s.bucket, s.prefix+name, minio.PutObjectOptions{})
	if err != nil {
		return s3Error("begin", err)
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = s.core.AbortMultipartUpload(ctx, s.bucket, s.prefix+name, upload) // else DropUnfinished does it
	}()
	var complete []minio.CompletePart
	for n, ended := len(part), false; n > 0 || !ended; n, ended, err = fill(content, part) {
		if err != nil {
			return fmt.Errorf("write a file to the object store: %w", err)
		}
		if n == 0 {
			break
		}
		number := len(complete) + 1
		if number > maxParts {
			return ErrTooLarge
		}
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		done, err := s.core.PutObjectPart(limited, s.bucket, s.prefix+name, upload, number, bytes.NewReader(part[:n]), int64(n),
			minio.PutObjectPartOptions{Md5Base64: sum(part[:n])})
		cancel()
		if err != nil {
			return s3Error("write", err)
		}
		complete = append(complete, minio.CompletePart{PartNumber: number, ETag: done.ETag})
		if ended {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.replace(ctx, "complete", over, func(ctx context.Context, options minio.PutObjectOptions) error {
		_, err := s.core.CompleteMultipartUpload(ctx, s.bucket, s.prefix+name, upload, complete, options)
		return err //nolint:wrapcheck // replace does
	})
}

// fill reads until the part is full or the content has ended, which only io.EOF says: a body that breaks off is io.ErrUnexpectedEOF.
func fill(content io.Reader, part []byte) (n int, ended bool, err error) {
	for n < len(part) {
		m, err := content.Read(part[n:])
		n += m
		if err == io.EOF { // wrapped, it is no end
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
	}
	return n, false, nil
}

func sum(content []byte) string {
	hash := md5.Sum(content) //nolint:gosec // what S3 checks a transfer with
	return base64.StdEncoding.EncodeToString(hash[:])
}

// Stat implements Store.
func (s *s3) Stat(ctx context.Context, name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	found, err := s.core.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s3Error("look at", err)
	}
	info := s.info(found)
	info.Name = name
	return info, nil
}

// List implements Store.
func (s *s3) List(ctx context.Context, folder string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkFolder(folder); err != nil {
			yield(Info{}, err)
			return
		}
		for found := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + folder, Recursive: true}) {
			if found.Err != nil {
				yield(Info{}, s3Error("list", found.Err))
				return
			}
			info := s.info(found)
			if CheckName(info.Name) == nil && !yield(info, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(Info{}, err)
		}
	}
}

// Delete implements Store.
func (s *s3) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := s.core.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	if err = s3Error("remove", err); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

// DropUnfinished implements Store.
func (s *s3) DropUnfinished(ctx context.Context, before time.Time) (dropped int64, err error) {
	var old []minio.ObjectMultipartInfo
	for found := range s.core.ListIncompleteUploads(ctx, s.bucket, s.prefix, true) {
		if found.Err != nil {
			return dropped, s3Error("list unfinished", found.Err)
		}
		if found.Initiated.Before(before) {
			old = append(old, found)
		}
	}
	for _, upload := range old {
		if err := s.core.AbortMultipartUpload(ctx, s.bucket, upload.Key, upload.UploadID); err != nil {
			return dropped, s3Error("abort", err)
		}
		dropped++
	}
	return dropped, nil
}

func (s *s3) info(found minio.ObjectInfo) Info {
	return Info{Name: strings.TrimPrefix(found.Key, s.prefix), Size: found.Size, Modified: found.LastModified.UTC(), ETag: strings.Trim(found.ETag, `"`)}
}

// s3Error keeps addresses out of what users see, and says what the store said.
func s3Error(doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctx := contextError(err); ctx != nil {
		return fmt.Errorf("%s a file in the object store: %w", doing, ctx)
	}
	response := minio.ToErrorResponse(err)
	switch {
	case response.StatusCode == http.StatusPreconditionFailed:
		return ErrChanged
	case response.Code == minio.NoSuchKey:
		return ErrNotFound
	case response.Code != "" && response.StatusCode != 0:
		return fmt.Errorf("%s a file in the object store: it answers %d %s", doing, response.StatusCode, response.Code)
	}
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Errorf("%s a file in the object store: %w", doing, err)
}

func contextError(err error) error {
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			return ended
		}
	}
	return nil
}
