package atlasjob

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/testenv"
	"github.com/atlas-platform/atlas/internal/token"
)

// crds is where the generated CRDs are.
var crds = filepath.Join("..", "..", "config", "crd")

// testEnv, testConfig and testScheme belong to the one API server of this package's tests.
var (
	testEnv    *envtest.Environment
	testConfig *rest.Config
	testScheme = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getenv(testenv.EnvtestAssets) == "" {
		return m.Run(), nil // setup says what is missing
	}
	if err := errors.Join(clientgoscheme.AddToScheme(testScheme), platformv1alpha1.AddToScheme(testScheme)); err != nil {
		return 1, err
	}
	testEnv = &envtest.Environment{CRDDirectoryPaths: []string{crds}, ErrorIfCRDPathMissing: true, Scheme: testScheme}
	testConfig, err = testEnv.Start()
	if err != nil {
		return 1, fmt.Errorf("start the API server: %w", err)
	}
	code = m.Run()
	return code, testEnv.Stop()
}

// testBundle is one test's world: a namespace with a Ready stack and its key, a stub of the jobs API, and a reconciler without a manager.
type testBundle struct {
	t         *testing.T
	client    client.Client
	namespace string
	api       *jobsAPI
	r         *Reconciler
	now       time.Time
	events    *events.FakeRecorder
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	k8s, err := client.New(testConfig, client.Options{Scheme: testScheme})
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "atlasjob-"}}
	require.NoError(t, k8s.Create(t.Context(), namespace))
	b := &testBundle{
		t: t, client: k8s, namespace: namespace.Name, api: newJobsAPI(t),
		now: time.Date(2026, 1, 22, 10, 0, 0, 0, time.UTC), events: events.NewFakeRecorder(100),
	}
	b.r = &Reconciler{
		Client: k8s, Reader: k8s, Recorder: b.events,
		BaseURL: func(*platformv1alpha1.AtlasStack) string { return b.api.server.URL },
		Clock:   func() time.Time { return b.now },
	}
	b.r.setDefaults()
	b.secret("atlas-auth", "signing-key.pem", b.api.keyPEM)
	b.stack(true)
	return b
}

func (b *testBundle) secret(name, field string, content []byte) {
	b.t.Helper()
	require.NoError(b.t, b.client.Create(b.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name},
		Data:       map[string][]byte{field: content},
	}))
}

func newStack(namespace string) *platformv1alpha1.AtlasStack {
	return &platformv1alpha1.AtlasStack{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "atlas"},
		Spec: platformv1alpha1.AtlasStackSpec{
			Image: "localhost/atlas:dev",
			Postgres: platformv1alpha1.PostgresSpec{URLSecretRef: corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "atlas-postgres"}, Key: "url",
			}},
			Kafka:         platformv1alpha1.KafkaSpec{Brokers: []string{"kafka.invalid:9092"}},
			Elasticsearch: platformv1alpha1.ElasticsearchSpec{Addresses: []string{"http://elasticsearch.invalid:9200"}},
		},
	}
}

// stack creates the stack, or sets whether it is Ready.
func (b *testBundle) stack(isReady bool) *platformv1alpha1.AtlasStack {
	b.t.Helper()
	stack := newStack(b.namespace)
	if err := b.client.Get(b.t.Context(), client.ObjectKeyFromObject(stack), stack); err != nil {
		require.NoError(b.t, b.client.Create(b.t.Context(), stack))
	}
	status := metav1.ConditionFalse
	if isReady {
		status = metav1.ConditionTrue
	}
	stack.Status.ObservedGeneration = stack.Generation
	meta.SetStatusCondition(&stack.Status.Conditions, metav1.Condition{
		Type: platformv1alpha1.ConditionReady, Status: status, Reason: "Test", ObservedGeneration: stack.Generation,
	})
	require.NoError(b.t, b.client.Status().Update(b.t.Context(), stack))
	return stack
}

const testCollection = "01890a5d-ac96-774b-bcce-b302099a8057"

func newJob(namespace string) *platformv1alpha1.AtlasJob {
	return &platformv1alpha1.AtlasJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "job"},
		Spec: platformv1alpha1.AtlasJobSpec{
			StackRef: platformv1alpha1.AtlasStackReference{Name: "atlas"},
			Type:     platformv1alpha1.AtlasJobTypeReindex,
			Reindex:  &platformv1alpha1.ReindexJob{CollectionID: testCollection},
		},
	}
}

func (b *testBundle) create(job *platformv1alpha1.AtlasJob) {
	b.t.Helper()
	require.NoError(b.t, b.client.Create(b.t.Context(), job))
}

// reconcile takes one turn and reads the job again; nil when it is gone.
func (b *testBundle) reconcile(job *platformv1alpha1.AtlasJob) (*platformv1alpha1.AtlasJob, ctrl.Result, error) {
	b.t.Helper()
	result, reconcileErr := b.r.Reconcile(b.t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(job)})
	return b.read(job), result, reconcileErr
}

func (b *testBundle) read(job *platformv1alpha1.AtlasJob) *platformv1alpha1.AtlasJob {
	b.t.Helper()
	after := &platformv1alpha1.AtlasJob{}
	err := b.client.Get(b.t.Context(), client.ObjectKeyFromObject(job), after)
	if client.IgnoreNotFound(err) == nil && err != nil {
		return nil
	}
	require.NoError(b.t, err)
	return after
}

// operatorConfig is a user who has the operator's generated role everywhere and no other right.
func operatorConfig(t *testing.T, admin client.Client) *rest.Config {
	t.Helper()
	user, err := testEnv.AddUser(envtest.User{Name: "operator"}, nil)
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	require.NoError(t, err)
	role := &rbacv1.ClusterRole{}
	require.NoError(t, yaml.UnmarshalStrict(content, role))
	role.Name, role.GenerateName = "", "operator-"
	require.NoError(t, admin.Create(t.Context(), role))
	require.NoError(t, admin.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "operator"}},
	}))
	return user.Config()
}

// requireCondition checks one condition and that it speaks of the job's generation.
func requireCondition(t *testing.T, job *platformv1alpha1.AtlasJob, kind string, status metav1.ConditionStatus, reason, says string) {
	t.Helper()
	condition := meta.FindStatusCondition(job.Status.Conditions, kind)
	require.NotNil(t, condition, "condition %s", kind)
	require.Equal(t, status, condition.Status, "condition %s", kind)
	require.Equal(t, reason, condition.Reason, "condition %s", kind)
	require.Contains(t, condition.Message, says, "condition %s", kind)
	require.Equal(t, job.Generation, condition.ObservedGeneration, "condition %s", kind)
}

func requireNoCondition(t *testing.T, job *platformv1alpha1.AtlasJob, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		require.Nil(t, meta.FindStatusCondition(job.Status.Conditions, kind), "condition %s", kind)
	}
}

// jobsAPI stands in for a stack's REST API: it verifies tokens and honours Idempotency-Key as the real one does.
type jobsAPI struct {
	server   *httptest.Server
	keyPEM   []byte
	verifier *token.Verifier

	mu       sync.Mutex
	jobs     map[string]map[string]any // by Idempotency-Key
	posts    []string                  // the keys of all POSTs
	requests []jobsAPIRequest
	// answer, when set, answers instead.
	answer http.HandlerFunc
	// change is laid over each job that is answered.
	change map[string]any
}

type jobsAPIRequest struct {
	method, path string
	body         map[string]any
	claims       token.Claims
}

func newJobsAPI(t *testing.T) *jobsAPI {
	t.Helper()
	keyPEM, err := token.GenerateSigningKey()
	require.NoError(t, err)
	key, err := token.ParseSigningKey(keyPEM)
	require.NoError(t, err)
	api := &jobsAPI{
		keyPEM:   keyPEM,
		verifier: token.NewVerifier("atlas", "atlas-api", nil, token.PublicKey(key)),
		jobs:     map[string]map[string]any{},
	}
	api.server = httptest.NewServer(api)
	t.Cleanup(api.server.Close)
	return api
}

func (a *jobsAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	content, _ := io.ReadAll(r.Body)
	request := jobsAPIRequest{method: r.Method, path: r.URL.Path}
	_ = json.Unmarshal(content, &request.body)
	var err error
	if auth := r.Header.Get("Authorization"); len(auth) > 7 {
		request.claims, err = a.verifier.Verify(auth[len("Bearer "):])
	}
	a.requests = append(a.requests, request)
	key := r.Header.Get("Idempotency-Key")
	if r.Method == http.MethodPost {
		a.posts = append(a.posts, key)
	}
	if a.answer != nil {
		a.answer(w, r)
		return
	}
	if err != nil || !request.claims.Service {
		answerProblem(http.StatusUnauthorized, `{"title":"Unauthorized","detail":"the token is not valid"}`)(w, r)
		return
	}
	if r.Method == http.MethodPost {
		if a.jobs[key] == nil {
			a.jobs[key] = map[string]any{
				"id": uuid.NewString(), "type": "reindex", "state": "QUEUED", "attempts": 0, "max_attempts": 5,
				"progress": map[string]any{"done": 0, "total": 0}, "error": nil,
				"created_at": "2026-01-22T10:00:00.123456Z", "started_at": nil, "finished_at": nil,
			}
		}
		a.write(w, http.StatusAccepted, a.jobs[key])
		return
	}
	for _, job := range a.jobs {
		if r.URL.Path == "/v1/jobs/"+job["id"].(string) {
			a.write(w, http.StatusOK, job)
			return
		}
	}
	answerProblem(http.StatusNotFound, `{"title":"Not Found","detail":"there is no such job"}`)(w, r)
}

func (a *jobsAPI) write(w http.ResponseWriter, status int, job map[string]any) {
	for name, value := range a.change {
		job[name] = value
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(job)
}

// set changes what every job looks like from now on.
func (a *jobsAPI) set(change map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change = change
}

// answerWith answers every request so from now on; nil means as a healthy API does.
func (a *jobsAPI) answerWith(answer http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

func (a *jobsAPI) seen() (posts []string, requests []jobsAPIRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string{}, a.posts...), append([]jobsAPIRequest{}, a.requests...)
}

func answerProblem(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hangUp ends the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
