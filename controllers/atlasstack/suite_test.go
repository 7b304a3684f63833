package atlasstack_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/atlasstack"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// suite is the one API server of this package's tests, with the reconciler running against it. Each test has a namespace and
// a Kafka and an Elasticsearch of its own.
type suite struct {
	client  client.Client
	servers *servers
	writes  *writes
}

// theSuite is set by TestMain only.
var theSuite *suite

func TestMain(m *testing.M) {
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	if os.Getenv(testenv.EnvtestAssets) == "" {
		return m.Run(), nil // newBundle says what is missing
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return 1, err
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd")}, ErrorIfCRDPathMissing: true}
	cfg, err := env.Start()
	if err != nil {
		return 1, fmt.Errorf("start the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()

	s := &suite{servers: newServers(), writes: &writes{count: map[string][]string{}}}
	if s.client, err = client.New(cfg, client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	operator, err := operatorUser(env, s.client)
	if err != nil {
		return 1, err
	}
	counted := rest.CopyConfig(operator)
	counted.Wrap(s.writes.wrap)
	counted.QPS = -1
	stop, err := startManager(counted, scheme, s.servers)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	theSuite = s
	return m.Run(), nil
}

// operatorUser is a user with the generated role and nothing else, so that every test notices a missing permission.
func operatorUser(env *envtest.Environment, c client.Client) (*rest.Config, error) {
	const name = "atlas-operator"
	user, err := env.AddUser(envtest.User{Name: name}, nil)
	if err != nil {
		return nil, err
	}
	manifest, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	if err != nil {
		return nil, err
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(manifest, role); err != nil {
		return nil, err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	if err := errors.Join(c.Create(context.Background(), role), c.Create(context.Background(), binding)); err != nil {
		return nil, err
	}
	return user.Config(), nil
}

func startManager(cfg *rest.Config, scheme *runtime.Scheme, servers *servers) (stop func() error, err error) {
	options, err := atlasstack.CacheOptions()
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{Scheme: scheme, Cache: options, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		return nil, err
	}
	err = (&atlasstack.Reconciler{
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("atlas-operator"),
		ConnectTopic: servers.connectTopic, ConnectIndex: servers.connectIndex,
	}).SetupWithManager(mgr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	return func() error { cancel(); return <-done }, nil
}

// writes records the requests of the operator that change something, by namespace. Events are not counted.
type writes struct {
	mu    sync.Mutex
	count map[string][]string
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (w *writes) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		_, rest, namespaced := strings.Cut(r.URL.Path, "/namespaces/")
		if r.Method != http.MethodGet && namespaced && !strings.Contains(r.URL.Path, "/events") {
			namespace, _, _ := strings.Cut(rest, "/")
			w.mu.Lock()
			w.count[namespace] = append(w.count[namespace], r.Method+" "+r.URL.Path)
			w.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

func (w *writes) in(namespace string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.count[namespace]...)
}

// bundle is the world of one test.
type bundle struct {
	*suite
	t         *testing.T
	namespace string
	kafka     *kafkaServer
	elastic   *elasticServer
}

func newBundle(t *testing.T) *bundle {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	require.NotNil(t, theSuite)
	b := &bundle{suite: theSuite, t: t, namespace: "t-" + uuid.NewString()[:8]}
	b.kafka, b.elastic = b.servers.add(b.namespace)
	require.NoError(t, b.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}))
	t.Cleanup(func() {
		// Without a controller manager nothing else ends the reconciliations of this test's stack.
		stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: stackName}}
		require.NoError(t, client.IgnoreNotFound(b.client.Delete(context.WithoutCancel(t.Context()), stack)))
	})
	return b
}
