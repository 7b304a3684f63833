package zipstream

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"time"
)

// Writer writes an archive to a stream. Discard it in any case, so that its temporary file goes.
type Writer struct {
	out        io.Writer
	offset     uint64
	files      uint64
	directory  spool
	compressor *flate.Writer
	compressed bytes.Buffer
	header     []byte
}

// NewWriter makes a writer. Nothing is written yet.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Add writes one file. The name is a relative path with slashes, in UTF-8, of less than 64 KiB.
func (z *Writer) Add(name string, modified time.Time, content []byte) error {
	if len(name) > max16 || uint64(len(content)) > math.MaxInt32 {
		return fmt.Errorf("add a file with a name of %d bytes and %d bytes: too large", len(name), len(content))
	}
	method, data, err := z.compress(content)
	if err != nil {
		return err
	}
	e := entry{
		name: name, method: method, crc: crc32.ChecksumIEEE(content), compressed: uint32(len(data)), size: uint32(len(content)), //nolint:gosec // bounded above
		offset: z.offset, modified: modified.UTC(),
	}
	z.header = e.appendLocal(z.header[:0])
	if err := z.write(z.header); err != nil {
		return err
	}
	if err := z.write(data); err != nil {
		return err
	}
	z.files++
	z.header = e.appendDirectory(z.header[:0])
	return z.directory.write(z.header)
}

// compress returns the content as it is when compressing would make it larger.
func (z *Writer) compress(content []byte) (method uint16, data []byte, err error) {
	z.compressed.Reset()
	if z.compressor == nil {
		if z.compressor, err = flate.NewWriter(&z.compressed, flate.DefaultCompression); err != nil {
			return 0, nil, fmt.Errorf("start to compress: %w", err)
		}
	} else {
		z.compressor.Reset(&z.compressed)
	}
	if _, err := z.compressor.Write(content); err != nil {
		return 0, nil, fmt.Errorf("compress: %w", err)
	}
	if err := z.compressor.Close(); err != nil {
		return 0, nil, fmt.Errorf("compress: %w", err)
	}
	if z.compressed.Len() >= len(content) {
		return methodStore, content, nil
	}
	return methodDeflate, z.compressed.Bytes(), nil
}

// Close writes the directory. The archive is complete only after it.
func (z *Writer) Close() error {
	start := z.offset
	if err := z.directory.each(z.write); err != nil {
		return err
	}
	return z.write(appendEnd(nil, z.files, z.offset-start, start))
}

// Discard removes the temporary file.
func (z *Writer) Discard() { z.directory.discard() }

func (z *Writer) write(b []byte) error {
	n, err := z.out.Write(b)
	z.offset += uint64(n) //nolint:gosec // never negative
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// entry is what the headers of a file say.
type entry struct {
	name             string
	method           uint16
	crc              uint32
	compressed, size uint32
	offset           uint64
	modified         time.Time
}

func (e *entry) appendLocal(b []byte) []byte {
	extra := e.timestamp()
	b = binary.LittleEndian.AppendUint32(b, localSignature)
	b = binary.LittleEndian.AppendUint16(b, 20) // version needed: 2.0, deflate
	b = e.appendCommon(b, len(extra))
	return append(append(b, e.name...), extra...)
}

func (e *entry) appendDirectory(b []byte) []byte {
	extra, offset, needed := e.timestamp(), uint32(max32), uint16(45)
	if e.offset < max32 {
		offset, needed = uint32(e.offset), 20
	} else {
		extra = binary.LittleEndian.AppendUint16(extra, extraZip64)
		extra = binary.LittleEndian.AppendUint16(extra, 8)
		extra = binary.LittleEndian.AppendUint64(extra, e.offset)
	}
	b = binary.LittleEndian.AppendUint32(b, directorySignature)
	b = binary.LittleEndian.AppendUint16(b, 3<<8|45) // made on Unix by version 4.5
	b = binary.LittleEndian.AppendUint16(b, needed)
	b = e.appendCommon(b, len(extra))
	b = append(b, make([]byte, 6)...)                             // no comment, first disk, no internal attributes
	b = binary.LittleEndian.AppendUint32(b, uint32(0o100644)<<16) // a regular file
	b = binary.LittleEndian.AppendUint32(b, offset)
	return append(append(b, e.name...), extra...)
}

// appendCommon is what both headers have.
func (e *entry) appendCommon(b []byte, extra int) []byte {
	date, clock := dosTime(e.modified)
	b = binary.LittleEndian.AppendUint16(b, flagUTF8)
	b = binary.LittleEndian.AppendUint16(b, e.method)
	b = binary.LittleEndian.AppendUint16(b, clock)
	b = binary.LittleEndian.AppendUint16(b, date)
	b = binary.LittleEndian.AppendUint32(b, e.crc)
	b = binary.LittleEndian.AppendUint32(b, e.compressed)
	b = binary.LittleEndian.AppendUint32(b, e.size)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.name))) //nolint:gosec // Add has bounded it
	return binary.LittleEndian.AppendUint16(b, uint16(extra))    //nolint:gosec // a few bytes
}

// timestamp is the extra field with the time in UTC: the header's own time has no zone.
func (e *entry) timestamp() []byte {
	seconds := e.modified.Unix()
	if seconds < 0 || seconds > math.MaxInt32 {
		return nil
	}
	b := binary.LittleEndian.AppendUint16(nil, extraTimestamp)
	b = binary.LittleEndian.AppendUint16(b, 5)
	b = append(b, 1) // there is a time of modification
	return binary.LittleEndian.AppendUint32(b, uint32(seconds))
}

// dosTime covers 1980 to 2107.
func dosTime(t time.Time) (date, clock uint16) {
	switch year := t.Year(); {
	case year < 1980:
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	case year > 2107:
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	date = uint16(t.Day() | int(t.Month())<<5 | (t.Year()-1980)<<9) //nolint:gosec // made to fit above
	clock = uint16(t.Second()/2 | t.Minute()<<5 | t.Hour()<<11)     //nolint:gosec // made to fit above
	return date, clock
}

// appendEnd says where the directory is; in 64 bits too where the old record has no room.
func appendEnd(b []byte, files, size, start uint64) []byte {
	if files >= max16 || size >= max32 || start >= max32 {
		end64 := start + size
		b = binary.LittleEndian.AppendUint32(b, end64Signature)
		b = binary.LittleEndian.AppendUint64(b, end64Length-12)
		b = binary.LittleEndian.AppendUint16(b, 3<<8|45)
		b = binary.LittleEndian.AppendUint16(b, 45)
		b = append(b, make([]byte, 8)...) // first disk
		b = binary.LittleEndian.AppendUint64(b, files)
		b = binary.LittleEndian.AppendUint64(b, files)
		b = binary.LittleEndian.AppendUint64(b, size)
		b = binary.LittleEndian.AppendUint64(b, start)
		b = binary.LittleEndian.AppendUint32(b, end64LocatorSignature)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint64(b, end64)
		b = binary.LittleEndian.AppendUint32(b, 1)
	}
	b = binary.LittleEndian.AppendUint32(b, endSignature)
	b = append(b, make([]byte, 4)...) // first disk
	b = binary.LittleEndian.AppendUint16(b, uint16(min(files, max16)))
	b = binary.LittleEndian.AppendUint16(b, uint16(min(files, max16)))
	b = binary.LittleEndian.AppendUint32(b, uint32(min(size, max32)))
	b = binary.LittleEndian.AppendUint32(b, uint32(min(start, max32)))
	return binary.LittleEndian.AppendUint16(b, 0) // no comment
}
