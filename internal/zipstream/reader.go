package zipstream

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strings"
)

// Reader reads an archive's files in the order of its directory.
type Reader struct {
	archive   io.ReaderAt
	size      int64
	base      int64 // of every offset: archives may have something before them
	files     uint64
	left      uint64
	directory *bufio.Reader
	inflater  io.ReadCloser
	header    [directoryLength]byte
}

// File is an entry of the directory. It is valid until the next one is asked for.
type File struct {
	Name string

	reader           *Reader
	flags, method    uint16
	crc              uint32
	compressed, size uint64
	offset           uint64
}

// NewReader finds the directory. What can't be an archive is ErrFormat.
func NewReader(archive io.ReaderAt, size int64) (*Reader, error) {
	end, at, err := findEnd(archive, size)
	if err != nil {
		return nil, err
	}
	files := uint64(binary.LittleEndian.Uint16(end[10:]))
	length := uint64(binary.LittleEndian.Uint32(end[12:]))
	start := uint64(binary.LittleEndian.Uint32(end[16:]))
	if files == max16 || length == max32 || start == max32 {
		if end64, at64 := findEnd64(archive, at); end64 != nil {
			files, length, start = binary.LittleEndian.Uint64(end64[32:]), binary.LittleEndian.Uint64(end64[40:]), binary.LittleEndian.Uint64(end64[48:])
			at = at64
		}
	}
	if length > uint64(at) || start > uint64(at)-length || files > length/directoryLength { //nolint:gosec // a position is never negative
		return nil, ErrFormat
	}
	r := &Reader{archive: archive, size: size, base: at - int64(length) - int64(start), files: files, left: files} //nolint:gosec // bounded above
	r.directory = bufio.NewReader(io.NewSectionReader(archive, at-int64(length), int64(length)))                   //nolint:gosec // bounded above
	return r, nil
}

// Files is how many entries the archive says it has; old tools count to 65,535 and begin again.
func (r *Reader) Files() int64 { return int64(min(r.files, math.MaxInt64)) }

// findEnd returns the record at the end of the archive, which a comment may follow, and where it is.
func findEnd(archive io.ReaderAt, size int64) ([]byte, int64, error) {
	tail := make([]byte, min(size, endLength+max16))
	if _, err := archive.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("read the archive's end: %w", err)
	}
	signature := binary.LittleEndian.AppendUint32(nil, endSignature)
	for i := len(tail); ; {
		if i = bytes.LastIndex(tail[:i], signature); i < 0 {
			return nil, 0, ErrFormat
		}
		if rest := tail[i:]; len(rest) >= endLength && int(binary.LittleEndian.Uint16(rest[20:]))+endLength <= len(rest) {
			return rest[:endLength], size - int64(len(rest)), nil
		}
	}
}

// findEnd64 returns nil when there is no such record.
func findEnd64(archive io.ReaderAt, end int64) ([]byte, int64) {
	locator := make([]byte, locatorLength)
	if end < locatorLength {
		return nil, 0
	}
	if _, err := archive.ReadAt(locator, end-locatorLength); err != nil || binary.LittleEndian.Uint32(locator) != end64LocatorSignature {
		return nil, 0
	}
	at := binary.LittleEndian.Uint64(locator[8:])
	if at > uint64(end) {
		return nil, 0
	}
	record := make([]byte, end64Length)
	if _, err := archive.ReadAt(record, int64(at)); err != nil || binary.LittleEndian.Uint32(record) != end64Signature { //nolint:gosec // bounded above
		return nil, 0
	}
	return record, int64(at) //nolint:gosec // bounded above
}

// Next returns the next entry, io.EOF after the last one, or ErrFormat.
func (r *Reader) Next() (*File, error) {
	if r.left == 0 {
		if err := r.uncounted(); err != nil {
			return nil, err
		}
		r.left++
	}
	r.left--
	h := r.header[:]
	if _, err := io.ReadFull(r.directory, h); err != nil {
		return nil, damaged(err)
	}
	if binary.LittleEndian.Uint32(h) != directorySignature {
		return nil, ErrFormat
	}
	f := &File{
		reader: r, flags: binary.LittleEndian.Uint16(h[8:]), method: binary.LittleEndian.Uint16(h[10:]), crc: binary.LittleEndian.Uint32(h[16:]),
		compressed: uint64(binary.LittleEndian.Uint32(h[20:])), size: uint64(binary.LittleEndian.Uint32(h[24:])),
		offset: uint64(binary.LittleEndian.Uint32(h[42:])),
	}
	name, extra, comment := int(binary.LittleEndian.Uint16(h[28:])), int(binary.LittleEndian.Uint16(h[30:])), int(binary.LittleEndian.Uint16(h[32:]))
	variable := make([]byte, name+extra)
	if _, err := io.ReadFull(r.directory, variable); err != nil {
		return nil, damaged(err)
	}
	if _, err := r.directory.Discard(comment); err != nil {
		return nil, damaged(err)
	}
	f.Name = strings.ToValidUTF8(string(variable[:name]), "\uFFFD")
	f.zip64(variable[name:])
	return f, nil
}

// uncounted returns io.EOF unless the directory goes on: the count of archives that old tools wrote has 16 bits only.
func (r *Reader) uncounted() error {
	signature, err := r.directory.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("read the archive: %w", err)
	case err != nil || binary.LittleEndian.Uint32(signature) != directorySignature:
		return io.EOF
	default:
		return nil
	}
}

// damaged tells an archive that ends too early from one that can't be read.
func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrFormat
	}
	return fmt.Errorf("read the archive: %w", err)
}

// zip64 takes the numbers that did not fit from the extra field.
func (f *File) zip64(extra []byte) {
	for len(extra) >= 4 {
		id, length := binary.LittleEndian.Uint16(extra), int(binary.LittleEndian.Uint16(extra[2:]))
		if extra = extra[4:]; length > len(extra) {
			return
		}
		if id == extraZip64 {
			field := extra[:length]
			for _, number := range []*uint64{&f.size, &f.compressed, &f.offset} {
				if *number == max32 && len(field) >= 8 {
					*number, field = binary.LittleEndian.Uint64(field), field[8:]
				}
			}
			return
		}
		extra = extra[length:]
	}
}

// Content returns the whole file if it has at most limit bytes, else ErrTooLarge, ErrUnsupported or ErrFormat. It never makes more than that,
// whatever the directory says. The effort is how many bytes were inflated or read at most, whichever are more, also where that came to nothing: entries
// may share what they are made of, so an archive may ask for much more than its own size.
func (f *File) Content(limit int64) (content []byte, effort int64, err error) {
	if f.size > uint64(limit) { //nolint:gosec // limits are positive
		return nil, 0, ErrTooLarge
	}
	if f.flags&flagEncrypted != 0 || (f.method != methodStore && f.method != methodDeflate) {
		return nil, 0, ErrUnsupported
	}
	data, err := f.data()
	if err != nil {
		return nil, 0, err
	}
	effort = int64(max(f.size, f.compressed)) //nolint:gosec // the limit and the archive's size bound them
	content = make([]byte, f.size)
	if _, err := io.ReadFull(data, content); err != nil {
		return nil, effort, ErrFormat
	}
	var more [1]byte
	if _, err := io.ReadFull(data, more[:]); !errors.Is(err, io.EOF) || crc32.ChecksumIEEE(content) != f.crc {
		return nil, effort, ErrFormat
	}
	return content, effort, nil
}

// data finds the content behind the file's own header.
func (f *File) data() (io.Reader, error) {
	r := f.reader
	if f.offset > uint64(r.size-r.base) { //nolint:gosec // the base lies within the archive
		return nil, ErrFormat
	}
	at := r.base + int64(f.offset) //nolint:gosec // bounded above
	var h [localLength]byte
	if _, err := r.archive.ReadAt(h[:], at); err != nil {
		return nil, damaged(err)
	}
	if binary.LittleEndian.Uint32(h[:]) != localSignature {
		return nil, ErrFormat
	}
	at += localLength + int64(binary.LittleEndian.Uint16(h[26:])) + int64(binary.LittleEndian.Uint16(h[28:]))
	if at > r.size || f.compressed > uint64(r.size-at) { //nolint:gosec // at is within the archive
		return nil, ErrFormat
	}
	raw := bufio.NewReader(io.NewSectionReader(r.archive, at, int64(f.compressed))) //nolint:gosec // bounded above
	if f.method == methodStore {
		return raw, nil
	}
	if r.inflater == nil {
		r.inflater = flate.NewReader(raw)
		return r.inflater, nil
	}
	resetter, ok := r.inflater.(flate.Resetter)
	if !ok {
		return flate.NewReader(raw), nil
	}
	if err := resetter.Reset(raw, nil); err != nil {
		return nil, fmt.Errorf("start to inflate: %w", err)
	}
	return r.inflater, nil
}
