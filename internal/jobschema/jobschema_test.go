package jobschema_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/jobschema"
	"github.com/atlas-platform/atlas/internal/tasks"
)

type everything struct {
	CollectionID *uuid.UUID  `json:"collection_id,omitempty" doc:"A collection." oneof:"what"`
	ItemIDs      []uuid.UUID `json:"item_ids,omitempty" doc:"Items." oneof:"what" min:"1" max:"100"`
	Repair       bool        `json:"repair" doc:"Whether to mend." default:"false" without:"form,since"`
	Pages        int         `json:"pages" doc:"How many." required:"true" min:"1" max:"10" example:"3"`
	Form         string      `json:"form" doc:"A form." enum:"ndjson,markdown"`
	Since        *time.Time  `json:"since" doc:"A time."`
	Name         string      `json:"name" doc:"A name." min:"1" max:"20" pattern:"^[a-z]+$" message:"must be small letters"`
}

func TestFieldsAreWhatTheTagsSay(t *testing.T) {
	t.Parallel()
	fields, err := jobschema.Fields(everything{})
	require.NoError(t, err)
	number := func(n int64) *int64 { return &n }
	require.Equal(t, []jobschema.Field{
		{Name: "collection_id", GoName: "CollectionID", Doc: "A collection.", Group: "what", Type: "string", Format: "uuid"},
		{
			Name: "item_ids", GoName: "ItemIDs", Doc: "Items.", Group: "what", Type: "string", Format: "uuid",
			List: true, MinItems: number(1), MaxItems: number(100),
		},
		{Name: "repair", GoName: "Repair", Doc: "Whether to mend.", Type: "boolean", Default: false, Without: []string{"form", "since"}},
		{Name: "pages", GoName: "Pages", Doc: "How many.", Required: true, Type: "integer", Min: number(1), Max: number(10), Example: int64(3)},
		{Name: "form", GoName: "Form", Doc: "A form.", Type: "string", Enum: []string{"ndjson", "markdown"}},
		{Name: "since", GoName: "Since", Doc: "A time.", Type: "string", Format: "date-time"},
		{Name: "name", GoName: "Name", Doc: "A name.", Type: "string", Min: number(1), Max: number(20), Pattern: "^[a-z]+$", Message: "must be small letters"},
	}, fields)
	none, err := jobschema.Fields(nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestWhatCannotBeDescribedIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		parameters any
		says       string
	}{
		"no struct": {"text", "is not a struct"},
		"no name":   {struct{ A bool }{}, "A: its json tag"},
		"a name in another case": {struct {
			A bool `json:"someName" doc:"A."`
		}{}, "snake_case"},
		"no sentence": {struct {
			A bool `json:"a"`
		}{}, "doc tag"},
		"a misspelt tag": {struct {
			A bool `json:"a" doc:"A." requird:"true"`
		}{}, `"requird"`},
		"a type without words": {struct {
			A map[string]string `json:"a" doc:"A."`
		}{}, "no words"},
		"an endless list": {struct {
			A []uuid.UUID `json:"a" doc:"A."`
		}{}, "without a max"},
		"a list that may be empty": {struct {
			A []uuid.UUID `json:"a" doc:"A." max:"2"`
		}{}, "without a min"},
		"without what is not there": {struct {
			A bool `json:"a" doc:"A." without:"b"`
		}{}, `no field "b"`},
		"without itself": {struct {
			A bool `json:"a" doc:"A." without:"a"`
		}{}, "without itself"},
		"required, without another one": {struct {
			A string `json:"a" doc:"A." max:"2" required:"true" without:"b"`
			B bool   `json:"b" doc:"B."`
		}{}, "required"},
		"an endless string": {struct {
			A string `json:"a" doc:"A."`
		}{}, "without a max"},
		"any number": {struct {
			A int `json:"a" doc:"A."`
		}{}, "without a min"},
		"a pattern of a number": {struct {
			A int `json:"a" doc:"A." min:"1" max:"2" pattern:"x"`
		}{}, "does not suit"},
		"a pattern without words": {struct {
			A string `json:"a" doc:"A." max:"2" pattern:"^a$"`
		}{}, "a pattern needs a message"},
		"words without a pattern": {struct {
			A string `json:"a" doc:"A." max:"2" message:"must be a"`
		}{}, "a message needs a pattern"},
		"a broken pattern": {struct {
			A string `json:"a" doc:"A." max:"2" pattern:"(" message:"must be whole"`
		}{}, "pattern"},
		"an unknown format": {struct {
			A string `json:"a" doc:"A." format:"colour"`
		}{}, "colour"},
		"a wrong default": {struct {
			A bool `json:"a" doc:"A." default:"perhaps"`
		}{}, "perhaps"},
		"a required default": {struct {
			A bool `json:"a" doc:"A." default:"true" required:"true"`
		}{}, "required"},
		"a group of one": {struct {
			A bool `json:"a" doc:"A." oneof:"g"`
		}{}, "no other field"},
		"an embedded struct": {struct{ jobs.Kind }{}, "embedded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := jobschema.Fields(c.parameters)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestAKindNamesTheCollectionThatItsScopeAsksFor(t *testing.T) {
	t.Parallel()
	type needed struct {
		CollectionID uuid.UUID `json:"collection_id" doc:"C." required:"true"`
	}
	type optional struct {
		CollectionID *uuid.UUID `json:"collection_id" doc:"C."`
	}
	for scope, parameters := range map[jobs.Scope]map[any]bool{
		jobs.ScopeCollection: {needed{}: true, optional{}: false, struct{}{}: false},
		jobs.ScopeEither:     {needed{}: false, optional{}: true, struct{}{}: false},
		jobs.ScopePlatform:   {needed{}: false, optional{}: false, struct{}{}: true},
		"":                   {struct{}{}: false},
	} {
		for value, right := range parameters {
			_, err := jobschema.Kinds([]jobs.Kind{{Name: "test", Summary: "Tests.", Scope: scope, Parameters: value}})
			require.Equal(t, right, err == nil, "%s %T: %v", scope, value, err)
		}
	}
}

func TestTheKindsOfAtlasAreDescribed(t *testing.T) {
	t.Parallel()
	kinds, err := jobschema.Kinds(tasks.Kinds())
	require.NoError(t, err)
	require.NotEmpty(t, kinds)
}
