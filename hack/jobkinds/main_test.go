package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobschema"
	"github.com/atlas-platform/atlas/internal/tasks"
)

func TestGeneratedFilesAreFresh(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	files, err := generate(root, tasks.Kinds())
	require.NoError(t, err)
	require.Len(t, files, 3)
	for name, content := range files {
		found, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, string(content), string(found), "%s is stale: run 'make generate' and commit the result", name)
	}
}

type everything struct {
	CollectionID *uuid.UUID  `json:"collection_id,omitempty" doc:"A collection." oneof:"what"`
	ItemIDs      []uuid.UUID `json:"item_ids,omitempty" doc:"Items of any collection." oneof:"what" min:"1" max:"100"`
	Repair       bool        `json:"repair" doc:"It's mended." default:"false" without:"form,again"`
	Again        bool        `json:"again" doc:"Once more." default:"false"`
	Pages        int         `json:"pages" doc:"How many." required:"true" min:"1" max:"10" example:"3"`
	Form         string      `json:"form" doc:"A form." enum:"ndjson,markdown" default:"ndjson"`
	Since        *time.Time  `json:"since" doc:"A time."`
	Name         string      `json:"name" doc:"A name." min:"1" max:"20" pattern:"^[a-z|]+$" message:"must be small letters"`
}

// reserved has names that mean something else in CEL.
type reserved struct {
	Package  string `json:"package,omitempty" doc:"One." enum:"a,b" oneof:"what"`
	Function string `json:"function,omitempty" doc:"Another." enum:"a,b" oneof:"what"`
}

// TestEveryKindOfFieldHasItsForms compares what is made of a made-up kind with what was looked at once: UPDATE_GOLDEN=1 writes it anew.
func TestEveryKindOfFieldHasItsForms(t *testing.T) {
	t.Parallel()
	kinds, err := jobschema.Kinds([]jobs.Kind{
		{Name: "audit_verify", Summary: "Looks at the trail.", Scope: jobs.ScopePlatform, MaxAttempts: 3, Concurrency: 1},
		{Name: "do_everything", Summary: "Does it.", Scope: jobs.ScopeEither, Parameters: everything{}},
		{Name: "import", Summary: "Brings in.", Scope: jobs.ScopePlatform, Parameters: reserved{}},
		{Name: "purge", Summary: "Removes.", Scope: jobs.ScopeCollection, Internal: true},
	})
	require.NoError(t, err)
	types, err := crd(public(kinds))
	require.NoError(t, err)
	for name, content := range map[string]string{"openapi.yaml": openAPI(kinds), "crd.go.txt": string(types), "docs.md": docs(kinds)} {
		file := filepath.Join("testdata", name)
		if os.Getenv("UPDATE_GOLDEN") != "" {
			require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), content)
	}
}
