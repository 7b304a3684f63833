// Package zipstream writes and reads zip archives of many small files in constant memory. archive/zip keeps the whole directory, a few hundred
// bytes a file, in memory; here it goes through a temporary file when it is written, and is read entry by entry.
package zipstream

import "errors"

// Errors that a caller decides on.
var (
	// ErrFormat says that something is no zip archive, or a damaged one.
	ErrFormat = errors.New("not a zip archive, or a damaged one")
	// ErrTooLarge says that a file is larger than the caller wants.
	ErrTooLarge = errors.New("the file is too large")
	// ErrUnsupported says that a file is encrypted or compressed in a way that is not supported.
	ErrUnsupported = errors.New("the file is encrypted, or compressed with something else than deflate")
)

// The signatures, methods and flags of APPNOTE.TXT, the format's description, that are used here.
const (
	localSignature        = 0x04034b50
	directorySignature    = 0x02014b50
	endSignature          = 0x06054b50
	end64Signature        = 0x06064b50
	end64LocatorSignature = 0x07064b50

	localLength     = 30
	directoryLength = 46
	endLength       = 22
	locatorLength   = 20
	end64Length     = 56

	methodStore   = 0
	methodDeflate = 8

	flagEncrypted = 0x1
	flagUTF8      = 0x800

	extraZip64     = 0x0001
	extraTimestamp = 0x5455

	max16 = 1<<16 - 1
	max32 = 1<<32 - 1
)
