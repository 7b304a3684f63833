package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/internal/testenv"
)

// elasticSecret is the Secret with the API key.
const elasticSecret = "elasticsearch"

// elasticKeys makes API keys as a user of its own. The Elasticsearch of the tests lets everybody in without credentials, but checks those that are sent.
type elasticKeys struct {
	user, password string
	// now is the key that the stack has.
	now elasticKey
}

type elasticKey struct {
	ID      string `json:"id"`
	Encoded string `json:"encoded"`
}

// newElasticKeys is nil where Elasticsearch knows no users.
func newElasticKeys(t *testing.T) *elasticKeys {
	t.Helper()
	k := &elasticKeys{user: "e2e-" + uuid.NewString()[:8], password: uuid.NewString()}
	account := map[string]any{"password": k.password, "roles": []string{"superuser"}}
	if status, answer := elasticAsk(t.Context(), t, http.MethodPut, "/_security/user/"+k.user, "", account); status != http.StatusOK {
		t.Logf("Elasticsearch takes any key: HTTP %d: %s", status, answer)
		return nil
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		status, answer := elasticAsk(ctx, t, http.MethodDelete, "/_security/api_key", "", map[string]any{"username": k.user})
		require.Equal(t, http.StatusOK, status, answer)
		status, answer = elasticAsk(ctx, t, http.MethodDelete, "/_security/user/"+k.user, "", nil)
		require.Equal(t, http.StatusOK, status, answer)
	})
	k.now = k.make(t)
	return k
}

// make makes another key.
func (k *elasticKeys) make(t *testing.T) elasticKey {
	t.Helper()
	request := bytes.NewBufferString(`{"name":"e2e"}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, testenv.Require(t, testenv.ElasticsearchURL)+"/_security/api_key", request)
	require.NoError(t, err)
	r.SetBasicAuth(k.user, k.password)
	status, answer := elasticSend(t, r)
	require.Equal(t, http.StatusOK, status, answer)
	var made elasticKey
	require.NoError(t, json.Unmarshal([]byte(answer), &made))
	return made
}

// revoke invalidates a key and waits until it is refused.
func (k *elasticKeys) revoke(t *testing.T, key elasticKey) {
	t.Helper()
	status, answer := elasticAsk(t.Context(), t, http.MethodGet, "/_security/_authenticate", key.Encoded, nil)
	require.Equal(t, http.StatusOK, status, answer)
	status, answer = elasticAsk(t.Context(), t, http.MethodDelete, "/_security/api_key", "", map[string]any{"ids": []string{key.ID}})
	require.Equal(t, http.StatusOK, status, answer)
	eventually(t, time.Minute, "the key is refused", func(ctx context.Context) error {
		if status, answer := elasticAsk(ctx, t, http.MethodGet, "/_security/_authenticate", key.Encoded, nil); status != http.StatusUnauthorized {
			return fmt.Errorf("HTTP %d: %s", status, answer)
		}
		return nil
	})
}

// elasticAsk makes a request, with an API key when there is one.
func elasticAsk(ctx context.Context, t *testing.T, method, path, key string, body any) (int, string) {
	t.Helper()
	var content bytes.Buffer
	if body != nil {
		require.NoError(t, json.NewEncoder(&content).Encode(body))
	}
	r, err := http.NewRequestWithContext(ctx, method, testenv.Require(t, testenv.ElasticsearchURL)+path, &content)
	require.NoError(t, err)
	if key != "" {
		r.Header.Set("Authorization", "ApiKey "+key)
	}
	return elasticSend(t, r)
}

func elasticSend(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(content)
}

// signInToElasticsearch gives the stack an API key.
func (l *lifecycle) signInToElasticsearch(t *testing.T) {
	t.Helper()
	key := "Zmlyc3Q6a2V5"
	if l.elastic = newElasticKeys(t); l.elastic != nil {
		key = l.elastic.now.Encoded
	}
	require.NoError(t, l.cluster.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.key.Namespace, Name: elasticSecret}, StringData: map[string]string{"apiKey": key},
	}))
	l.stack.Spec.Elasticsearch.CredentialsSecretRef = &corev1.LocalObjectReference{Name: elasticSecret}
}

// rotateElasticsearch goes over to another API key, and revokes the first one.
func (l *lifecycle) rotateElasticsearch(t *testing.T) {
	if l.elastic == nil {
		t.Skip("the Elasticsearch that was given takes any key")
	}
	former := l.elastic.now
	l.elastic.now = l.elastic.make(t)
	l.rolls(t, elasticSecret, func(data map[string][]byte) { data["apiKey"] = []byte(l.elastic.now.Encoded) }, "api", "indexer", "worker")
	l.elastic.revoke(t, former)
	l.flows(t)
	l.reconcile(t)
}
