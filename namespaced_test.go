package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// The namespaces of TestTheOperatorOfSomeNamespaces: its own, two that it watches, and somebody else's.
const (
	ownedNamespace = "atlas-system"
	watchedOne     = "team-a"
	watchedTwo     = "team-b"
	elsewhere      = "elsewhere"
)

// TestMain keeps what every operator of this package's tests logs: the logger can be set once.
func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewJSONHandler(&operatorLog, nil)))
	os.Exit(m.Run())
}

var operatorLog lockedBuffer //nolint:gochecknoglobals // set by TestMain only

type lockedBuffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p) //nolint:wrapcheck // never fails
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// forbidden are the requests that the API server refused for want of a right.
type forbidden struct {
	mu       sync.Mutex
	requests []string
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f *forbidden) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(r)
		if err == nil && response.StatusCode == http.StatusForbidden {
			f.mu.Lock()
			f.requests = append(f.requests, r.Method+" "+r.URL.String())
			f.mu.Unlock()
		}
		return response, err
	})
}

func (f *forbidden) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// chart is what Helm renders of the chart for some namespaces, as far as it gives rights, and the operator's arguments.
func chart(t *testing.T, namespaces ...string) (rights []client.Object, arguments []string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), testenv.Require(t, testenv.Helm), "template", "atlas-operator", filepath.Join("charts", "atlas-operator"),
		"--namespace", ownedNamespace, "--set", "watchNamespaces={"+strings.Join(namespaces, ",")+"}")
	rendered, err := command.Output()
	require.NoError(t, err)
	for document := range bytes.SplitSeq(rendered, []byte("\n---\n")) {
		var metadata metav1.PartialObjectMetadata
		require.NoError(t, yaml.Unmarshal(document, &metadata))
		var object client.Object
		switch metadata.Kind {
		case "Role":
			object = &rbacv1.Role{}
		case "RoleBinding":
			object = &rbacv1.RoleBinding{}
		case "ClusterRole":
			if strings.HasSuffix(metadata.Name, "-view") || strings.HasSuffix(metadata.Name, "-edit") {
				continue // for people
			}
			object = &rbacv1.ClusterRole{}
		case "ClusterRoleBinding":
			object = &rbacv1.ClusterRoleBinding{}
		case "ValidatingAdmissionPolicy":
			object = &admissionv1.ValidatingAdmissionPolicy{}
		case "ValidatingAdmissionPolicyBinding":
			object = &admissionv1.ValidatingAdmissionPolicyBinding{}
		case "Deployment":
			operator := &appsv1.Deployment{}
			require.NoError(t, yaml.UnmarshalStrict(document, operator))
			arguments = operator.Spec.Template.Spec.Containers[0].Args
			continue
		default:
			continue
		}
		require.NoError(t, yaml.UnmarshalStrict(document, object))
		rights = append(rights, object)
	}
	require.Len(t, rights, 2*len(namespaces)+2+4)
	return rights, arguments
}

// TestTheOperatorOfSomeNamespaces runs the operator as the chart installs it with watchNamespaces, with the rights that the chart gives it there and no others, on real
// Kafka and Elasticsearch: from a stack that lacks a Secret to its deletion, and to the deletion of a namespace. The test plays the controllers of Jobs, Deployments and
// Namespaces.
func TestTheOperatorOfSomeNamespaces(t *testing.T) {
	testenv.Require(t, testenv.EnvtestAssets)
	rights, arguments := chart(t, watchedOne, watchedTwo)
	makeElasticLogin(t)
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("config", "crd")}, ErrorIfCRDPathMissing: true}
	config, err := env.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, env.Stop()) })
	c := &cluster{t: t, Client: adminOf(t, config)}
	for _, namespace := range []string{ownedNamespace, watchedOne, watchedTwo, elsewhere} {
		require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	}
	for _, right := range rights {
		require.NoError(t, c.Create(t.Context(), right))
	}
	foreign, stack := c.create(elsewhere), c.create(watchedOne)
	other := c.create(watchedTwo)

	var refused forbidden
	account := rest.CopyConfig(config)
	account.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + ownedNamespace + ":atlas-operator",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + ownedNamespace, "system:authenticated"},
	}
	asOperator := adminOf(t, account)
	require.True(t, apierrors.IsForbidden(asOperator.List(t.Context(), &corev1.SecretList{}, client.InNamespace(elsewhere))))
	nothing := client.RawPatch(types.MergePatchType, []byte("{}"))
	require.ErrorContains(t, asOperator.Patch(t.Context(), foreign.DeepCopy(), nothing), "in the namespaces "+watchedOne+", "+watchedTwo+" only")
	require.NoError(t, asOperator.Patch(t.Context(), stack.DeepCopy(), nothing))
	account.Wrap(refused.wrap)
	before := len(operatorLog.String())
	o, err := parse(append(arguments, "--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0"))
	require.NoError(t, err)
	require.Equal(t, []string{watchedOne, watchedTwo}, o.namespaces)
	o.electionNamespace, o.another = ownedNamespace, true
	mgr, err := manager(o, account)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()

	for _, namespace := range []string{watchedOne, watchedTwo} {
		c.condition(namespace, v1alpha1.ConditionReferencesResolved, metav1.ConditionFalse, "Secret postgres does not exist in namespace "+namespace)
	}
	for _, namespace := range []string{watchedOne, watchedTwo} {
		require.NoError(t, c.Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "postgres"}, StringData: map[string]string{"url": "postgres://atlas:pa55word@db:5432/atlas"},
		}))
		c.condition(namespace, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
	}
	require.NoError(t, c.Delete(t.Context(), stack))
	c.gone(stack)
	require.Empty(t, refused.all())
	log := operatorLog.String()[before:]
	require.Contains(t, log, "Starting workers")
	require.NotContains(t, strings.ToLower(log), "forbidden")

	c.losesItsNamespace(asOperator, other)
	require.NotEmpty(t, refused.all())
	require.NotContains(t, operatorLog.String()[before:], "left behind")

	stop()
	require.NoError(t, <-done)
	c.restartsWithout(watchedTwo, o, account)
	now := &v1alpha1.AtlasStack{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(foreign), now))
	require.Equal(t, foreign.ResourceVersion, now.ResourceVersion, "nobody looks after it")
}

// restartsWithout starts the operator again when it may not read one of its namespaces any more: it looks after the others, and ends when it may.
func (c *cluster) restartsWithout(lost string, o options, account *rest.Config) {
	c.t.Helper()
	o.namespacesAgain = 100 * time.Millisecond
	require.NoError(c.t, o.leaveOut(c.t.Context(), account))
	require.Equal(c.t, []string{lost}, o.leftOut)
	mgr, err := manager(o, account)
	require.NoError(c.t, err)
	ctx, stop := context.WithCancel(c.t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	c.create(watchedOne)
	c.condition(watchedOne, v1alpha1.ConditionTopicReady, metav1.ConditionTrue, "") // further it gets not: nobody collects the garbage of the stack before it

	may := metav1.ObjectMeta{Name: "may-read-stacks"}
	require.NoError(c.t, c.Create(c.t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: may, Rules: []rbacv1.PolicyRule{{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"atlasstacks"}, Verbs: []string{"list"}}},
	}))
	require.NoError(c.t, c.Create(c.t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: may, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: may.Name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: account.Impersonate.UserName}},
	}))
	require.ErrorIs(c.t, <-done, errReadable)
}

// The login of the stacks at Elasticsearch.
const (
	elasticUser     = "namespaced"
	elasticPassword = "pa55word"
)

// makeElasticLogin makes it where Elasticsearch checks logins; one that does not takes any.
func makeElasticLogin(t *testing.T) {
	t.Helper()
	user := strings.NewReader(`{"password": "` + elasticPassword + `", "roles": ["superuser"]}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, testenv.Require(t, testenv.ElasticsearchURL)+"/_security/user/"+elasticUser, user)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
}

func adminOf(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	c, err := client.New(config, client.Options{Scheme: scheme})
	require.NoError(t, err)
	return c
}

// cluster is a cluster without the controllers of Kubernetes.
type cluster struct {
	client.Client
	t *testing.T
}

// create makes a stack that has one of everything for which an operator needs rights, with a topic and an index of its own that go with it.
func (c *cluster) create(namespace string) *v1alpha1.AtlasStack {
	c.t.Helper()
	name := "namespaced-" + uuid.NewString()
	login := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "elastic"}, StringData: map[string]string{"username": elasticUser, "password": elasticPassword},
	}
	if err := c.Create(c.t.Context(), login); !apierrors.IsAlreadyExists(err) {
		require.NoError(c.t, err)
	}
	stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo"}, Spec: v1alpha1.AtlasStackSpec{
		Image:    "registry.example.com/atlas:1.0.0",
		Postgres: v1alpha1.PostgresSpec{URLSecretRef: corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "postgres"}, Key: "url"}},
		Kafka: v1alpha1.KafkaSpec{
			Brokers: strings.Split(testenv.Require(c.t, testenv.KafkaBrokers), ","), Topic: v1alpha1.TopicSpec{Name: name}, DeletionPolicy: v1alpha1.DeletionDelete,
		},
		Elasticsearch: v1alpha1.ElasticsearchSpec{
			CredentialsSecretRef: &corev1.LocalObjectReference{Name: "elastic"},
			Addresses:            []string{testenv.Require(c.t, testenv.ElasticsearchURL)}, Index: v1alpha1.IndexSpec{Alias: name}, DeletionPolicy: v1alpha1.DeletionDelete,
		},
		Worker: v1alpha1.ComponentSpec{
			Autoscaling: &v1alpha1.AutoscalingSpec{MinReplicas: 1, MaxReplicas: 2},
			Resources:   corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
		},
		Networking:    v1alpha1.NetworkingSpec{Ingress: &v1alpha1.IngressSpec{Host: "atlas.example.com"}, NetworkPolicy: &v1alpha1.NetworkPolicySpec{}},
		Observability: v1alpha1.ObservabilitySpec{Dashboards: &v1alpha1.DashboardsSpec{}},
	}}
	require.NoError(c.t, c.Create(c.t.Context(), stack))
	return stack
}

// until plays the controllers of Kubernetes until something is so.
func (c *cluster) until(so wait.ConditionWithContextFunc, what func() string) {
	c.t.Helper()
	err := wait.PollUntilContextTimeout(c.t.Context(), 50*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		if err := c.play(ctx); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return false, err
		}
		return so(ctx)
	})
	require.NoError(c.t, err, what())
}

// condition waits for a condition of a namespace's stack.
func (c *cluster) condition(namespace, kind string, want metav1.ConditionStatus, says string) {
	c.t.Helper()
	stack := &v1alpha1.AtlasStack{}
	c.until(func(ctx context.Context) (bool, error) {
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "demo"}, stack); err != nil {
			return false, err
		}
		is := meta.FindStatusCondition(stack.Status.Conditions, kind)
		return is != nil && is.Status == want && strings.Contains(is.Message, says), nil
	}, func() string { return fmt.Sprint(stack.Status.Conditions) })
}

func (c *cluster) play(ctx context.Context) error {
	jobs, deployments, ingresses := &batchv1.JobList{}, &appsv1.DeploymentList{}, &networkingv1.IngressList{}
	for _, list := range []client.ObjectList{jobs, deployments, ingresses} {
		if err := c.List(ctx, list); err != nil {
			return err
		}
	}
	now := metav1.Now()
	for i := range jobs.Items {
		job := &jobs.Items[i]
		if len(job.Status.Conditions) > 0 {
			continue
		}
		job.Status = batchv1.JobStatus{StartTime: &now, CompletionTime: &now, Succeeded: 1}
		for _, kind := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete} {
			job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
		}
		if err := c.Status().Update(ctx, job); err != nil {
			return err
		}
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		if d.Status.ObservedGeneration == d.Generation {
			continue
		}
		n := *d.Spec.Replicas
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
		if err := c.Status().Update(ctx, d); err != nil {
			return err
		}
	}
	for i := range ingresses.Items {
		ingress := &ingresses.Items[i]
		if len(ingress.Status.LoadBalancer.Ingress) > 0 {
			continue
		}
		ingress.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}
		if err := c.Status().Update(ctx, ingress); err != nil {
			return err
		}
	}
	return nil
}
