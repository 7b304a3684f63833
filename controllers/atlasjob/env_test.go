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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/rbactest"
	"github.com/atlas-platform/atlas/internal/testenv"
	"github.com/atlas-platform/atlas/internal/token"
)

// crds is where the generated CRDs are.
var crds = filepath.Join("..", "..", "config", "crd")

// testEnv, testConfig and testScheme belong to the one API server of this package's tests. operatorConfig is of a user who has the operator's generated role and no other
// right; what it is used for is compared with the rights that this package asks for.
var (
	testEnv                    *envtest.Environment
	testConfig, operatorConfig *rest.Config
	testScheme                 = runtime.NewScheme()
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
	ctrl.SetLogger(logr.Discard())
	if err := errors.Join(clientgoscheme.AddToScheme(testScheme), platformv1alpha1.AddToScheme(testScheme)); err != nil {
		return 1, err
	}
	testEnv = &envtest.Environment{CRDDirectoryPaths: []string{crds}, ErrorIfCRDPathMissing: true, Scheme: testScheme}
	testConfig, err = testEnv.Start()
	if err != nil {
		return 1, fmt.Errorf("start the API server: %w", err)
	}
	defer func() { err = errors.Join(err, testEnv.Stop()) }()
	var rights rbactest.Recorder
	if operatorConfig, err = rights.Operator(testEnv, testScheme); err != nil {
		return 1, err
	}
	if code = m.Run(); code != 0 {
		return code, nil
	}
	// An event is patched when it repeats itself, which is up to the library.
	return 0, rights.Check(".", "events.k8s.io/events patch")
}

// testBundle is one test's world: a namespace with a Ready stack and its key, a stub of the jobs API, and a reconciler without a manager.
type testBundle struct {
	t          *testing.T
	client     client.Client
	asOperator client.Client // with the operator's rights, and no cache
	namespace  string
	api        *jobsAPI
	r          *Reconciler
	now        time.Time
	events     *events.FakeRecorder
	asked      int
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	k8s, err := client.New(testConfig, client.Options{Scheme: testScheme})
	require.NoError(t, err)
	operator, err := client.New(operatorConfig, client.Options{Scheme: testScheme})
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "atlasjob-"}}
	require.NoError(t, k8s.Create(t.Context(), namespace))
	b := &testBundle{
		t: t, client: k8s, asOperator: operator, namespace: namespace.Name, api: newJobsAPI(t),
		now: time.Date(2026, 1, 22, 10, 0, 0, 0, time.UTC), events: events.NewFakeRecorder(100),
	}
	b.r = &Reconciler{
		Client: operator, Reader: operator, Recorder: b.events,
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
			AtlasJobWork: platformv1alpha1.AtlasJobWork{
				Type: platformv1alpha1.AtlasJobTypeReindex, Reindex: &platformv1alpha1.ReindexJob{CollectionID: testCollection},
			},
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
	if r.Method == http.MethodPost && r.URL.Path == "/v1/jobs" {
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
	if r.Method == http.MethodPost && r.URL.Path == "/v1/jobs" {
		a.jobOf(key)
		a.changed(a.jobs[key])
		writeJSON(w, http.StatusAccepted, a.jobs[key])
		return
	}
	if r.URL.Path == "/v1/jobs" {
		found := []any{}
		if job := a.jobs[r.URL.Query().Get("idempotency_key")]; job != nil {
			a.changed(job)
			found = append(found, job)
		}
		writeJSON(w, http.StatusOK, map[string]any{"items": found, "next_cursor": nil})
		return
	}
	for _, job := range a.jobs {
		rest, mine := strings.CutPrefix(r.URL.Path, "/v1/jobs/"+job["id"].(string))
		if !mine {
			continue
		}
		a.changed(job)
		open := job["state"] == "QUEUED" || job["state"] == "RUNNING"
		switch {
		case rest == "/cancel" && job["state"] == "RUNNING":
			job["cancel_requested"] = true
			writeJSON(w, http.StatusAccepted, job)
			return
		case rest == "/cancel" && open:
			job["state"] = "CANCELLED"
		case open && rest != "":
			job["paused"] = rest == "/pause"
		}
		writeJSON(w, http.StatusOK, job)
		return
	}
	answerProblem(http.StatusNotFound, `{"title":"Not Found","detail":"there is no such job"}`)(w, r)
}

// jobOf is the job of a key, which is made if need be.
func (a *jobsAPI) jobOf(key string) map[string]any {
	if a.jobs[key] == nil {
		a.jobs[key] = map[string]any{
			"id": uuid.NewString(), "type": "reindex", "state": "QUEUED", "attempts": 0, "max_attempts": 5,
			"progress": map[string]any{"done": 0, "total": 0, "message": nil}, "error": nil, "result": nil, "paused": false, "cancel_requested": false,
			"created_at": "2026-01-22T10:00:00.123456Z", "started_at": nil, "finished_at": nil,
		}
	}
	return a.jobs[key]
}

// submit is a request that arrives without anybody waiting for its answer.
func (a *jobsAPI) submit(key string) map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.jobOf(key)
}

// changed lays change over a job.
func (a *jobsAPI) changed(job map[string]any) {
	for name, value := range a.change {
		job[name] = value
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
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
