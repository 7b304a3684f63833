package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/testenv"
)

func topics(t *testing.T) []string {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	kafka, err := sarama.NewClient(splitComma(testenv.Require(t, testenv.KafkaBrokers)), config)
	require.NoError(t, err)
	defer kafka.Close()
	names, err := kafka.Topics()
	require.NoError(t, err)
	return names
}

// TestAtlasJobReindexesACollection takes an item out of Elasticsearch behind Atlas's back, at its own version; the job brings it back.
func TestAtlasJobReindexesACollection(t *testing.T) {
	t.Parallel()
	e := setup(t)
	api, _ := e.user(t)
	collection, err := api.CreateCollectionWithResponse(t.Context(), nil, client.CollectionCreate{Name: "to reindex"})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, collection.StatusCode(), string(collection.Body))
	item, err := api.CreateItemWithResponse(t.Context(), nil, client.ItemCreate{CollectionID: collection.JSON201.ID, Title: "kept", Content: "lost and found"})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, item.StatusCode(), string(item.Body))
	found := func(want int64) func(context.Context) error {
		return func(ctx context.Context) error {
			query := "found"
			page, err := api.SearchWithResponse(ctx, &client.SearchParams{Q: &query, CollectionID: &collection.JSON201.ID})
			if err != nil {
				return err
			}
			if page.JSON200 == nil || page.JSON200.Total != want {
				return fmt.Errorf("HTTP %d: %s", page.StatusCode(), page.Body)
			}
			return nil
		}
	}
	eventually(t, time.Minute, "search finds the item", found(1))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete,
		testenv.Require(t, testenv.ElasticsearchURL)+"/atlas-items/_doc/"+item.JSON201.ID.String()+"?refresh=true&version=1&version_type=external_gte", nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	eventually(t, time.Minute, "search has lost the item", found(0))

	job := &platformv1alpha1.AtlasJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: stackKey.Namespace, GenerateName: "reindex-"},
		Spec: platformv1alpha1.AtlasJobSpec{
			StackRef: platformv1alpha1.AtlasStackReference{Name: stackKey.Name},
			AtlasJobWork: platformv1alpha1.AtlasJobWork{
				Type: platformv1alpha1.AtlasJobTypeReindex, Reindex: &platformv1alpha1.ReindexJob{CollectionID: collection.JSON201.ID.String()},
			},
		},
	}
	require.NoError(t, e.cluster.Create(t.Context(), job))
	eventually(t, time.Minute, "the AtlasJob succeeds", func(ctx context.Context) error {
		if err := e.cluster.Get(ctx, ctrlclient.ObjectKeyFromObject(job), job); err != nil {
			return err
		}
		if job.Status.Phase != "Succeeded" {
			return fmt.Errorf("phase %q: %s %+v", job.Status.Phase, job.Status.Error, job.Status.Conditions)
		}
		return nil
	})
	require.Equal(t, metav1.ConditionTrue, condition(job.Status.Conditions, platformv1alpha1.ConditionComplete).Status)
	require.EqualValues(t, 1, job.Status.Progress.Done)
	eventually(t, time.Minute, "search finds the item again", found(1))
}
