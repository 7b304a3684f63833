package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// stackKey is the stack that `bin/devenv up stack` installs from config/samples.
var stackKey = ctrlclient.ObjectKey{Namespace: "atlas", Name: "atlas"}

// env is the world of a test: the cluster, the database behind the stack and an API client.
type env struct {
	cluster ctrlclient.Client
	db      *pgxpool.Pool
	apiURL  string
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // or controller-runtime complains that nobody set one
	m.Run()
}

func setup(t *testing.T) *env {
	t.Helper()
	restConfig, err := clientcmd.BuildConfigFromFlags("", testenv.Require(t, testenv.Kubeconfig))
	require.NoError(t, err)
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, platformv1alpha1.AddToScheme(scheme))
	cluster, err := ctrlclient.New(restConfig, ctrlclient.Options{Scheme: scheme})
	require.NoError(t, err)
	db, err := postgres.Open(t.Context(), testenv.Require(t, testenv.DatabaseURL), 4)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return &env{cluster: cluster, db: db, apiURL: testenv.Require(t, testenv.AtlasURL)}
}

// eventually polls until check passes, and fails with check's last complaint when it does not within the time.
func eventually(t *testing.T, within time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			require.NoError(t, err, "%s: not within %s", what, within)
		case <-ticker.C:
		}
	}
}

// user registers and logs in an ordinary user and returns an API client that acts as that user.
func (e *env) user(t *testing.T) (*client.ClientWithResponses, string) {
	t.Helper()
	email, password := "e2e-"+uuid.NewString()+"@example.com", uuid.NewString()
	anonymous := e.client(t, "")
	registered, err := anonymous.RegisterWithResponse(t.Context(), client.RegisterRequest{Email: email, Password: password})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, registered.StatusCode(), string(registered.Body))
	return e.login(t, email, password), email
}

func (e *env) login(t *testing.T, email, password string) *client.ClientWithResponses {
	t.Helper()
	answer, err := e.client(t, "").LoginWithResponse(t.Context(), client.LoginRequest{Email: email, Password: password})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode(), string(answer.Body))
	return e.client(t, answer.JSON200.AccessToken)
}

func (e *env) client(t *testing.T, token string) *client.ClientWithResponses {
	t.Helper()
	api, err := client.NewClientWithResponses(e.apiURL, client.WithHTTPClient(&http.Client{Timeout: 10 * time.Second}),
		client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			return nil
		}))
	require.NoError(t, err)
	return api
}

// namespace makes a namespace that enforces the restricted Pod Security standard.
func (e *env) namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	require.NoError(t, e.cluster.Create(t.Context(), ns))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, ctrlclient.IgnoreNotFound(e.cluster.Delete(ctx, ns)))
	})
	return ns.Name
}

func condition(conditions []metav1.Condition, name string) metav1.Condition {
	for _, c := range conditions {
		if c.Type == name {
			return c
		}
	}
	return metav1.Condition{Type: name, Status: "absent"}
}

// esGet reads JSON from Elasticsearch.
func esGet(ctx context.Context, t *testing.T, path string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, testenv.Require(t, testenv.ElasticsearchURL)+path, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, body.String())
	require.NoError(t, json.Unmarshal(body.Bytes(), into))
}

func kubectl(t *testing.T) string {
	t.Helper()
	path := filepath.Join(testenv.Require(t, testenv.EnvtestAssets), "kubectl")
	_, err := os.Stat(path)
	require.NoError(t, err)
	return path
}
