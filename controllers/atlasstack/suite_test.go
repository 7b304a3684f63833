package atlasstack_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/atlasstack"
	"github.com/atlas-platform/atlas/controllers/crdtest"
	"github.com/atlas-platform/atlas/controllers/rbactest"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// suite is the one API server of this package's tests, with the reconciler running against it. Each test has a namespace and
// a Kafka and an Elasticsearch of its own.
type suite struct {
	client  client.WithWatch
	direct  client.WithWatch // the operator's user, without a cache
	servers *servers
	writes  *writes
}

// operatorNamespace is where the operator says it is.
const operatorNamespace = "atlas-system"

// discovery is short, so that a kind that appears is noticed at once.
const discovery = 300 * time.Millisecond

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
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), apiextensionsv1.AddToScheme(scheme)); err != nil {
		return 1, err
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd")}, ErrorIfCRDPathMissing: true}
	for _, kind := range []string{crdtest.HTTPRoute, crdtest.ServiceMonitor} { // the others come and go
		crd, err := crdtest.Read(context.Background(), kind)
		if err != nil {
			return 1, err
		}
		env.CRDs = append(env.CRDs, crd)
	}
	// The default has 254 addresses, too few for the Services of all tests.
	env.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	// As on OpenShift: who has an owner's deletion wait for a child needs the right to its finalizers, which the operator does not have.
	env.ControlPlane.GetAPIServer().Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	cfg, err := env.Start()
	if err != nil {
		return 1, fmt.Errorf("start the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()

	s := &suite{servers: newServers(), writes: &writes{count: map[string][]string{}, pods: map[string]int{}}}
	if s.client, err = client.NewWithWatch(cfg, client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	operator, err := rbactest.Operator(context.Background(), env, s.client, filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	if err != nil {
		return 1, err
	}
	counted := rest.CopyConfig(operator.Config())
	counted.Wrap(s.writes.wrap)
	var rights rbactest.Recorder
	counted.Wrap(rights.Wrap)
	counted.QPS = -1
	if s.direct, err = client.NewWithWatch(counted, client.Options{Scheme: scheme}); err != nil {
		return 1, err
	}
	stop, err := startManager(counted, scheme, s.servers)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	theSuite = s
	if code = m.Run(); code != 0 {
		return code, nil
	}
	// An event is patched when it repeats itself, which is up to the library. These kinds are never deleted, but who gives an object back to its owner has to be
	// allowed to, where the API server checks that as this one does.
	return 0, rights.Check(".", "events.k8s.io/events patch", "/serviceaccounts delete", "policy/poddisruptionbudgets delete")
}

func startManager(cfg *rest.Config, scheme *runtime.Scheme, servers *servers) (stop func() error, err error) {
	options, err := atlasstack.CacheOptions()
	if err != nil {
		return nil, err
	}
	others, err := labels.Parse("!" + directLabel)
	if err != nil {
		return nil, err
	}
	// An entry of the same kind under another pointer would be a second one, and one of them would be taken at random.
	maps.DeleteFunc(options.ByObject, func(object client.Object, _ cache.ByObject) bool {
		_, stack := object.(*v1alpha1.AtlasStack)
		return stack
	})
	options.ByObject[&v1alpha1.AtlasStack{}] = cache.ByObject{Label: others}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{Scheme: scheme, Cache: options, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		return nil, err
	}
	err = (&atlasstack.Reconciler{
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("atlas-operator"),
		ConnectTopic: servers.connectTopic, ConnectIndex: servers.connectIndex, Discovery: discovery, Namespace: operatorNamespace,
	}).SetupWithManager(mgr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	return func() error { cancel(); return <-done }, nil
}

// writes records the requests of the operator that change something, by namespace. Events are not counted. It counts those that read pods, too.
type writes struct {
	mu    sync.Mutex
	count map[string][]string
	pods  map[string]int
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
		if namespace, isPods := strings.CutSuffix(rest, "/pods"); r.Method == http.MethodGet && isPods {
			w.mu.Lock()
			w.pods[namespace]++
			w.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

// podReads is how often the operator has read the pods of a namespace.
func (w *writes) podReads(namespace string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pods[namespace]
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
	served    *served
}

func newBundle(t *testing.T) *bundle {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	require.NotNil(t, theSuite)
	b := &bundle{suite: theSuite, t: t, namespace: "t-" + uuid.NewString()[:8]}
	b.kafka, b.elastic = b.servers.add(b.namespace)
	require.NoError(t, b.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.namespace}}))
	b.watchKstatus()
	t.Cleanup(func() {
		// Without a controller manager nothing else ends the reconciliations of this test's stack.
		stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: stackName}}
		require.NoError(t, client.IgnoreNotFound(b.client.Delete(context.WithoutCancel(t.Context()), stack)))
	})
	return b
}
