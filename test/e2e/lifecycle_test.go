package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// readyWithin bounds each wait for the stack; a machine that compiles beside needs minutes for what takes seconds else.
const readyWithin = 4 * time.Minute

// lifecycle takes one stack of its own through all that platform teams do to one.
type lifecycle struct {
	*env
	node   node
	logins logins
	// kafka and elastic are nil where the servers were given and don't check credentials.
	kafka   *securedKafka
	elastic *elasticKeys
	stack   *platformv1alpha1.AtlasStack
	key     ctrlclient.ObjectKey
	traffic *traffic
	// kept is an item from the very beginning, and collection is where it is.
	kept       string
	collection uuid.UUID
	// firstKey is the public part of the signing key that the stack began with.
	firstKey []byte
}

// TestLifecycle upgrades, rotates, scales, hibernates and deletes a stack on a real node, and no request fails meanwhile.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	l := &lifecycle{env: setup(t), node: openNode(t)}
	l.prepare(t)
	t.Cleanup(func() {
		if l.traffic != nil {
			l.traffic.end()
		}
	})
	steps := []struct {
		name string
		run  func(*testing.T)
		// quiet steps are without traffic.
		quiet bool
	}{
		{name: "create", run: l.create, quiet: true},
		{name: "objects as specified", run: l.objects, quiet: true},
		{name: "upgrade", run: l.upgrade},
		{name: "downgrade refused", run: l.downgrade},
		{name: "rotate the database's role", run: l.rotateDatabase},
		{name: "change the role's password", run: l.changePassword},
		{name: "rotate Elasticsearch's key", run: l.rotateElasticsearch},
		{name: "change Kafka's password", run: l.changeKafkaPassword},
		{name: "change Kafka's CA", run: l.rotateKafkaCA},
		{name: "rotate the signing key", run: l.rotateSigningKey},
		{name: "scale by hand", run: l.scale},
		{name: "evict", run: l.evict},
		{name: "restart the operator", run: l.restartOperator},
		{name: "autoscale", run: l.autoscale},
		{name: "hibernate", run: l.hibernate, quiet: true},
		{name: "wake", run: l.wake, quiet: true},
		{name: "delete", run: l.delete, quiet: true},
	}
	for _, step := range steps {
		passed := t.Run(step.name, func(t *testing.T) {
			start := time.Now()
			if !step.quiet {
				l.traffic.enter(step.name)
			}
			step.run(t)
			if !step.quiet {
				l.traffic.check(t, step.name)
			}
			t.Logf("took %s", time.Since(start).Round(time.Second))
		})
		if !passed {
			l.explain(t)
			return
		}
	}
	t.Logf("%d requests in all, none failed", l.traffic.total())
}

// prepare makes all that goes before a stack.
func (l *lifecycle) prepare(t *testing.T) {
	t.Helper()
	l.requireMetrics(t)
	l.installRoutes(t)
	l.logins = l.newLogins(t)
	second := l.secondStack(t)
	l.logins.own(t, second.database)
	l.stack, l.key = second.stack, ctrlclient.ObjectKeyFromObject(second.stack)
	secret := l.databaseSecret(t, second)
	secret.StringData[urlKey] = l.logins.url(t, secret.StringData[urlKey], "a")
	require.NoError(t, l.cluster.Create(t.Context(), secret))
	spec := &l.stack.Spec
	l.signInToKafka(t)
	l.signInToElasticsearch(t)
	spec.Postgres.MaxConnections = new(int32(5))
	spec.Auth.AccessTokenLifetime = &metav1.Duration{Duration: time.Hour} // one client keeps its first token
	spec.Kafka.DeletionPolicy = platformv1alpha1.DeletionDelete
	spec.Elasticsearch.DeletionPolicy = platformv1alpha1.DeletionDelete
	for _, c := range []*platformv1alpha1.ComponentSpec{&spec.API, &spec.Indexer, &spec.Audit, &spec.Worker} {
		c.Resources.Requests[corev1.ResourceCPU] = resource.MustParse("10m")
	}
	spec.API.Replicas = new(int32(2))
	spec.API.Resources.Requests[corev1.ResourceCPU] = resource.MustParse("50m")
	spec.Networking.RequestsPerMinute = new(int32(0))
	spec.Networking.NetworkPolicy = &platformv1alpha1.NetworkPolicySpec{
		APIFrom: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"gateway": "true"}}}},
	}
	spec.Networking.HTTPRoute = &platformv1alpha1.HTTPRouteSpec{
		ParentRefs: []platformv1alpha1.GatewayReference{{Name: "public", Namespace: "gateways"}}, Hostnames: []string{"atlas.example.com"},
	}
}

// urlKey is the key of the Secret with the database's address.
const urlKey = "url"

// requireMetrics fails early where nobody would tell the autoscaler what pods use. Another test may just have replaced the pods.
func (l *lifecycle) requireMetrics(t *testing.T) {
	t.Helper()
	usage := &metav1.PartialObjectMetadataList{}
	usage.SetGroupVersionKind(schema.GroupVersionKind{Group: "metrics.k8s.io", Version: "v1beta1", Kind: "PodMetricsList"})
	require.NoError(t, l.cluster.List(t.Context(), usage, ctrlclient.InNamespace(stackKey.Namespace)), "type: bin/devenv metrics --instance test")
	eventually(t, 2*time.Minute, "metrics-server knows what pods use", func(ctx context.Context) error {
		if err := l.cluster.List(ctx, usage, ctrlclient.InNamespace(stackKey.Namespace)); err != nil || len(usage.Items) > 0 {
			return err
		}
		return errors.New("it knows of no pod")
	})
}

// await waits as a user would, with kubectl.
func (l *lifecycle) await(t *testing.T) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), kubectl(t), "--kubeconfig", testenv.Require(t, testenv.Kubeconfig), "--namespace", l.key.Namespace,
		"wait", "--for=condition=Ready", "atlasstack/"+l.key.Name, "--timeout="+readyWithin.String()).CombinedOutput()
	require.NoError(t, err, string(out))
	// A change outside of the spec may have been seen a moment after kubectl asked.
	eventually(t, readyWithin, "the stack stays ready", func(ctx context.Context) error { return stackReady(ctx, l.env, l.key) })
}

// change changes the spec and waits until the stack is as it says.
func (l *lifecycle) change(t *testing.T, change func(*platformv1alpha1.AtlasStackSpec)) {
	t.Helper()
	l.patch(t, change)
	l.await(t)
}

func (l *lifecycle) patch(t *testing.T, change func(*platformv1alpha1.AtlasStackSpec)) {
	t.Helper()
	require.NoError(t, l.cluster.Get(t.Context(), l.key, l.stack))
	base := l.stack.DeepCopy()
	change(&l.stack.Spec)
	require.NoError(t, l.cluster.Patch(t.Context(), l.stack, ctrlclient.MergeFrom(base)))
}

func (l *lifecycle) create(t *testing.T) {
	require.NoError(t, l.cluster.Create(t.Context(), l.stack))
	l.acceptRoute(t)
	l.await(t)
	url := l.node.forward(t, l.env, l.name("api"), 80)
	l.awaitAnswer(t, url)
	l.traffic = newTraffic(t, url)
	l.kept = l.keep(t)
	l.firstKey = l.secret(t, "auth").Data["signing-key.pem"]
	l.traffic.begin(t)
}

// awaitAnswer waits until kube-proxy knows the pods, which is a moment after they are ready.
func (l *lifecycle) awaitAnswer(t *testing.T, url string) {
	t.Helper()
	api := (&env{apiURL: url}).client(t, "")
	eventually(t, time.Minute, "the Service leads to a pod", func(ctx context.Context) error {
		_, err := api.LoginWithResponse(ctx, loginOfNobody)
		return err
	})
}

func (l *lifecycle) name(role string) ctrlclient.ObjectKey {
	return ctrlclient.ObjectKey{Namespace: l.key.Namespace, Name: l.key.Name + "-" + role}
}

func (l *lifecycle) secret(t *testing.T, name string) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{}
	require.NoError(t, l.cluster.Get(t.Context(), l.name(name), secret))
	return secret
}

// keep makes an item that is there until the end.
func (l *lifecycle) keep(t *testing.T) string {
	t.Helper()
	api := l.caller(t)
	collection, err := api.CreateCollectionWithResponse(t.Context(), nil, client.CollectionCreate{Name: "kept"})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, collection.StatusCode(), string(collection.Body))
	l.collection = collection.JSON201.ID
	return l.add(t, api, "perennial", "from the beginning")
}

// add makes an item beside the kept one.
func (l *lifecycle) add(t *testing.T, api *client.ClientWithResponses, title, content string) string {
	t.Helper()
	item, err := api.CreateItemWithResponse(t.Context(), nil, client.ItemCreate{CollectionID: l.collection, Title: title, Content: content})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, item.StatusCode(), string(item.Body))
	return item.JSON201.ID.String()
}

// caller is an API client of the stack, as the user of the traffic.
func (l *lifecycle) caller(t *testing.T) *client.ClientWithResponses {
	t.Helper()
	e := &env{apiURL: l.traffic.url}
	return e.login(t, l.traffic.email, l.traffic.password)
}

// findKept reads the item of the beginning and finds it by search.
func (l *lifecycle) findKept(t *testing.T) {
	t.Helper()
	api := l.caller(t)
	item, err := api.GetItemWithResponse(t.Context(), uuid.MustParse(l.kept), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, item.StatusCode(), string(item.Body))
	eventually(t, time.Minute, "search finds the item of the beginning", func(ctx context.Context) error { return finds(ctx, api, "perennial", l.kept) })
}

// finds searches an item in Elasticsearch.
func finds(ctx context.Context, api *client.ClientWithResponses, word, id string) error {
	found, err := api.SearchWithResponse(ctx, &client.SearchParams{Q: &word})
	if err != nil {
		return err
	}
	if found.StatusCode() != http.StatusOK || found.JSON200.Degraded || !strings.Contains(string(found.Body), id) {
		return fmt.Errorf("HTTP %d: %s", found.StatusCode(), found.Body)
	}
	return nil
}

// upgrade rolls a release out that changes a table under the feet of the one before.
func (l *lifecycle) upgrade(t *testing.T) {
	next := l.node.nextRelease(t)
	l.node.load(t, next)
	before := l.pods(t, roles...)
	l.change(t, func(s *platformv1alpha1.AtlasStackSpec) { s.Image = next.Ref })
	require.Equal(t, strings.TrimPrefix(next.Ref, "localhost/atlas:"), l.stackNow(t).Status.Version)
	l.awaitGone(t, before)
	var rows int
	require.NoError(t, l.logins.query(t, "SELECT count(*) FROM items WHERE next_release = 'yes'").Scan(&rows))
	require.NotZero(t, rows, "the schema has changed")
}

// downgrade asks for the release before, which does not know the schema: it is refused, and the pods stay.
func (l *lifecycle) downgrade(t *testing.T) {
	first := &platformv1alpha1.AtlasStack{}
	require.NoError(t, l.cluster.Get(t.Context(), stackKey, first))
	next, before := l.stackNow(t).Spec.Image, l.pods(t, roles...)
	l.patch(t, func(s *platformv1alpha1.AtlasStackSpec) { s.Image = first.Spec.Image })
	eventually(t, readyWithin, "the downgrade is refused", func(context.Context) error {
		c := condition(l.stackNow(t).Status.Conditions, platformv1alpha1.ConditionMigrationsApplied)
		if c.Reason != platformv1alpha1.ReasonDowngradeRefused {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		return nil
	})
	l.change(t, func(s *platformv1alpha1.AtlasStackSpec) { s.Image = next })
	require.Equal(t, before, l.pods(t, roles...), "the same pods serve on")
}

func (l *lifecycle) stackNow(t *testing.T) *platformv1alpha1.AtlasStack {
	t.Helper()
	stack := &platformv1alpha1.AtlasStack{}
	require.NoError(t, l.cluster.Get(t.Context(), l.key, stack))
	return stack
}

// pods are the pods of roles, those that are ending too.
func (l *lifecycle) pods(t *testing.T, of ...string) map[types.UID]string {
	t.Helper()
	pods := &corev1.PodList{}
	require.NoError(t, l.cluster.List(t.Context(), pods, ctrlclient.InNamespace(l.key.Namespace)))
	uids := map[types.UID]string{}
	for _, pod := range pods.Items {
		if slices.Contains(of, pod.Labels["app.kubernetes.io/component"]) {
			uids[pod.UID] = pod.Name
		}
	}
	return uids
}

// awaitGone waits until pods have ended.
func (l *lifecycle) awaitGone(t *testing.T, pods map[types.UID]string) {
	t.Helper()
	eventually(t, readyWithin, "the former pods end", func(context.Context) error {
		now := l.pods(t, roles...)
		for uid, name := range pods {
			if now[uid] == name {
				return fmt.Errorf("%s is still there", name)
			}
		}
		return nil
	})
}

// explain logs what helps to understand a failed step.
func (l *lifecycle) explain(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "atlasstack,pods,hpa,deployments", "--output", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"get", "atlasstack", l.key.Name, "--output", "jsonpath={.status}"},
	} {
		out, _ := exec.Command(kubectl(t), append([]string{"--kubeconfig", testenv.Require(t, testenv.Kubeconfig), "--namespace", l.key.Namespace}, args...)...).CombinedOutput()
		t.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
}
