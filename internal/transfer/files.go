package transfer

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/objects"
)

// The forms of a file.
const (
	NDJSON   = "ndjson"
	Markdown = "markdown"
)

// The folders of the object store from which files go when they have been kept long enough.
const (
	Exports = "exports/"
	Imports = "imports/"
)

// NoStore is what to say where there is no object store.
const NoStore = "there is no object store: OBJECT_STORE_URL has to be set, for the API and the workers alike"

// ExportFolder is where a collection's exports go, ImportFolder where its uploads are.
func ExportFolder(collection uuid.UUID) string { return Exports + collection.String() + "/" }

// ImportFolder is where a collection's uploads are.
func ImportFolder(collection uuid.UUID) string { return Imports + collection.String() + "/" }

// ExportPath is where an export goes that says nothing else. The version is the job's when it was claimed: a worker that lost the job and does not know it
// yet can't replace what another one made.
func ExportPath(collection, job uuid.UUID, version int64, format string) string {
	return fmt.Sprintf("%s%s-%d%s", ExportFolder(collection), job, version, Extension(format))
}

// Format is the form of a file: the one that was asked for, or else the one that its name says.
func Format(asked, path string) string {
	switch {
	case asked != "":
		return asked
	case strings.HasSuffix(path, Extension(Markdown)):
		return Markdown
	default:
		return NDJSON
	}
}

// Extension is that of a form's files.
func Extension(format string) string {
	if format == Markdown {
		return ".zip"
	}
	return ".ndjson"
}

// CheckPath tells whether somebody may name a path: platform admins any, others only one in the collection's own folder.
func CheckPath(path, folder string, admin bool) error {
	if err := objects.CheckName(path); err != nil {
		return fmt.Errorf("the path %w", err)
	}
	if !admin && !strings.HasPrefix(path, folder) {
		return fmt.Errorf("the path has to begin with %s; only platform admins can name another", folder)
	}
	return nil
}
