package api_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/oapi-codegen/nullable"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/client"
)

// TestGeneratedClient takes the typed client through the API, so that the two can't drift.
func TestGeneratedClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := loggedIn(t, b.server.URL)
	ctx := t.Context()

	me, err := c.GetMeWithResponse(ctx)
	require.NoError(t, err)
	require.Equal(t, "ada@example.com", me.JSON200.Email)
	collection, err := c.CreateCollectionWithResponse(ctx, nil, client.CollectionCreate{Name: "c"})
	require.NoError(t, err)
	require.NoError(t, client.Check(collection.HTTPResponse, collection.Body))
	source := "https://example.com"
	item, err := c.CreateItemWithResponse(ctx, nil, client.ItemCreate{
		CollectionID: collection.JSON201.ID, Title: "t", Content: "x", SourceURL: &source, Tags: &client.Tags{"a"},
	})
	require.NoError(t, err)
	require.NoError(t, client.Check(item.HTTPResponse, item.Body))
	require.Equal(t, `"1"`, *item.Headers201.ETag)
	require.Equal(t, client.Indexing, item.JSON201.SearchState)

	updated, err := c.UpdateItemWithResponse(ctx, item.JSON201.ID, &client.UpdateItemParams{IfMatch: item.Headers201.ETag},
		client.ItemPatch{SourceURL: nullable.NewNullNullable[string]()})
	require.NoError(t, err)
	require.NoError(t, client.Check(updated.HTTPResponse, updated.Body))
	require.Nil(t, updated.JSON200.SourceURL)
	require.Equal(t, "t", updated.JSON200.Title)

	list, err := c.ListItemsWithResponse(ctx, &client.ListItemsParams{CollectionID: &collection.JSON201.ID, Tag: &client.TagFilter{"a"}})
	require.NoError(t, err)
	require.Len(t, list.JSON200.Items, 1)
	key := "k"
	reindex, err := client.NewJob("reindex", client.ReindexParameters{CollectionID: &collection.JSON201.ID})
	require.NoError(t, err)
	job, err := c.CreateJobWithResponse(ctx, &client.CreateJobParams{IdempotencyKey: &key}, reindex)
	require.NoError(t, err)
	require.NoError(t, client.Check(job.HTTPResponse, job.Body))
	job2, err := c.GetJobWithResponse(ctx, job.JSON202.ID, nil)
	require.NoError(t, err)
	require.Equal(t, client.Queued, job2.JSON200.State)
	require.Nil(t, job2.JSON200.Error)
	require.Nil(t, job2.JSON200.StartedAt)

	missing, err := c.GetJobWithResponse(ctx, uuid.New(), nil)
	require.NoError(t, err)
	var failure *client.Error
	require.ErrorAs(t, client.Check(missing.HTTPResponse, missing.Body), &failure)
	require.Equal(t, 404, failure.StatusCode)
	require.Equal(t, "urn:atlas:problem:not-found", failure.Problem.Type)
	require.Contains(t, failure.Error(), "no such job")

	nameless, err := c.CreateCollectionWithResponse(ctx, nil, client.CollectionCreate{})
	require.NoError(t, err)
	require.EqualError(t, client.Check(nameless.HTTPResponse, nameless.Body), "422 The request is not valid: /name must have at least 1 character")

	broken, err := client.New(b.server.URL, func(context.Context) (string, error) { return "", errors.New("no token") })
	require.NoError(t, err)
	_, err = broken.GetMeWithResponse(ctx)
	require.ErrorContains(t, err, "no token")
}
