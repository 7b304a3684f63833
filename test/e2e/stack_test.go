package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/testenv"
)

var (
	roles         = []string{"api", "indexer", "audit", "worker"}
	loginOfNobody = client.LoginRequest{Email: "nobody@example.com", Password: "not-the-password"}
)

func splitComma(s string) []string { return strings.Split(s, ",") }

func escape(s string) string { return url.QueryEscape(s) }

func entityVersion(t *testing.T, e event.Envelope) int64 {
	t.Helper()
	var data struct {
		EntityVersion int64 `json:"entity_version"`
	}
	require.NoError(t, json.Unmarshal(e.Data, &data))
	return data.EntityVersion
}

func stackReady(ctx context.Context, e *env, key ctrlclient.ObjectKey) error {
	stack := &platformv1alpha1.AtlasStack{}
	if err := e.cluster.Get(ctx, key, stack); err != nil {
		return err
	}
	ready := condition(stack.Status.Conditions, platformv1alpha1.ConditionReady)
	if ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != stack.Generation {
		return fmt.Errorf("Ready is %s (%s) for generation %d of %d: %s", ready.Status, ready.Reason, ready.ObservedGeneration, stack.Generation, ready.Message)
	}
	return nil
}

func TestKubectlShowsTheStack(t *testing.T) {
	e := setup(t)
	require.NoError(t, stackReady(t.Context(), e, stackKey))
	out, err := exec.CommandContext(t.Context(), kubectl(t), "--kubeconfig", testenv.Require(t, testenv.Kubeconfig),
		"get", "atlasstack", "--namespace", stackKey.Namespace).CombinedOutput()
	require.NoError(t, err, string(out))
	header, row, _ := strings.Cut(string(out), "\n")
	require.Equal(t, []string{"NAME", "READY", "VERSION", "AGE"}, strings.Fields(header))
	require.Equal(t, []string{"atlas", "True"}, strings.Fields(row)[:2])
	require.Len(t, strings.Fields(row), 4)
}

func TestPodsOfEveryRoleAreRestricted(t *testing.T) {
	e := setup(t)
	for _, role := range roles {
		pods := &corev1.PodList{}
		require.NoError(t, e.cluster.List(t.Context(), pods, ctrlclient.InNamespace(stackKey.Namespace),
			ctrlclient.MatchingLabels{"app.kubernetes.io/component": role}))
		require.NotEmpty(t, pods.Items, role)
		for _, pod := range pods.Items {
			require.True(t, *pod.Spec.SecurityContext.RunAsNonRoot, pod.Name)
			require.False(t, *pod.Spec.AutomountServiceAccountToken, pod.Name)
			for _, container := range pod.Spec.Containers {
				require.True(t, *container.SecurityContext.ReadOnlyRootFilesystem, pod.Name)
				require.False(t, *container.SecurityContext.AllowPrivilegeEscalation, pod.Name)
			}
		}
	}
}

// secondStack is a stack of its own: other database, topic and alias, on the same servers.
type secondStack struct {
	stack    *platformv1alpha1.AtlasStack
	database string
}

func (e *env) secondStack(t *testing.T) secondStack {
	t.Helper()
	first := &platformv1alpha1.AtlasStack{}
	require.NoError(t, e.cluster.Get(t.Context(), stackKey, first))
	suffix := strings.ReplaceAll(uuid.NewString()[:8], "-", "")
	database := "e2e_" + suffix
	_, err := e.db.Exec(t.Context(), "CREATE DATABASE "+database)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := e.db.Exec(ctx, "DROP DATABASE IF EXISTS "+database+" WITH (FORCE)")
		require.NoError(t, err)
	})
	stack := &platformv1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: e.namespace(t), Name: "second"}}
	stack.Spec = *first.Spec.DeepCopy()
	stack.Spec.Postgres.URLSecretRef.Name = "database"
	stack.Spec.Kafka.Topic.Name = "e2e." + suffix
	stack.Spec.Elasticsearch.Index.Alias = "e2e-" + suffix
	return secondStack{stack: stack, database: database}
}

// databaseSecret is the Secret that the second stack needs, made from the first one's.
func (e *env) databaseSecret(t *testing.T, s secondStack) *corev1.Secret {
	t.Helper()
	first, original := &platformv1alpha1.AtlasStack{}, &corev1.Secret{}
	require.NoError(t, e.cluster.Get(t.Context(), stackKey, first))
	ref := first.Spec.Postgres.URLSecretRef
	require.NoError(t, e.cluster.Get(t.Context(), ctrlclient.ObjectKey{Namespace: stackKey.Namespace, Name: ref.Name}, original))
	address, err := url.Parse(string(original.Data[ref.Key]))
	require.NoError(t, err)
	address.Path = "/" + s.database
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.stack.Namespace, Name: "database"},
		StringData: map[string]string{ref.Key: address.String()},
	}
}

// TestStackSaysWhatIsWrongAndRecovers takes a stack from a missing Secret and an unreachable broker to Ready, then deletes it.
func TestStackSaysWhatIsWrongAndRecovers(t *testing.T) {
	t.Parallel()
	e := setup(t)
	second := e.secondStack(t)
	stack, key := second.stack, ctrlclient.ObjectKeyFromObject(second.stack)
	goodBrokers := stack.Spec.Kafka.Brokers
	stack.Spec.Kafka.Brokers = []string{"127.0.0.1:1"} // nothing listens there in the operator's pod
	require.NoError(t, e.cluster.Create(t.Context(), stack))

	awaitCondition := func(within time.Duration, name string, status metav1.ConditionStatus, mentions string) {
		t.Helper()
		eventually(t, within, name+" says what is wrong", func(ctx context.Context) error {
			if err := e.cluster.Get(ctx, key, stack); err != nil {
				return err
			}
			c := condition(stack.Status.Conditions, name)
			if c.Status != status || !strings.Contains(c.Message, mentions) {
				return fmt.Errorf("%s is %s: %s", name, c.Status, c.Message)
			}
			return nil
		})
	}
	awaitCondition(15*time.Second, platformv1alpha1.ConditionReferencesResolved, metav1.ConditionFalse, "database")
	require.NoError(t, e.cluster.Create(t.Context(), e.databaseSecret(t, second)))
	awaitCondition(15*time.Second, platformv1alpha1.ConditionReferencesResolved, metav1.ConditionTrue, "")
	awaitCondition(90*time.Second, platformv1alpha1.ConditionMigrationsApplied, metav1.ConditionTrue, "")

	eventually(t, 30*time.Second, "TopicReady names the broker that can't be reached", func(ctx context.Context) error {
		if err := e.cluster.Get(ctx, key, stack); err != nil {
			return err
		}
		c := condition(stack.Status.Conditions, platformv1alpha1.ConditionTopicReady)
		if c.Status == metav1.ConditionTrue || !strings.Contains(c.Message, "127.0.0.1:1") {
			return fmt.Errorf("TopicReady is %s: %s", c.Status, c.Message)
		}
		return nil
	})
	base := stack.DeepCopy()
	stack.Spec.Kafka.Brokers = goodBrokers
	require.NoError(t, e.cluster.Patch(t.Context(), stack, ctrlclient.MergeFrom(base)))
	eventually(t, 2*time.Minute, "the stack recovers", func(ctx context.Context) error { return stackReady(ctx, e, key) })

	require.NoError(t, e.cluster.Delete(t.Context(), stack))
	eventually(t, time.Minute, "the workloads are gone", func(ctx context.Context) error {
		deployments, pods := &appsv1.DeploymentList{}, &corev1.PodList{}
		if err := errors.Join(e.cluster.List(ctx, deployments, ctrlclient.InNamespace(key.Namespace)),
			e.cluster.List(ctx, pods, ctrlclient.InNamespace(key.Namespace))); err != nil {
			return err
		}
		if n := len(deployments.Items) + len(pods.Items); n > 0 {
			return fmt.Errorf("%d Deployments and pods are left", n)
		}
		if err := e.cluster.Get(ctx, key, stack); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the stack is still there: %w", err)
		}
		return nil
	})
	var aliases map[string]any
	esGet(t.Context(), t, "/_alias/"+stack.Spec.Elasticsearch.Index.Alias, &aliases)
	require.Len(t, aliases, 1, "the index is kept")
	require.Contains(t, topics(t), stack.Spec.Kafka.Topic.Name, "the topic is kept")
	var databases int
	require.NoError(t, e.db.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", second.database).Scan(&databases))
	require.Equal(t, 1, databases, "the data is kept")
}

func TestManifestsWithMistakesAreRefused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	second := e.secondStack(t)
	cases := map[string]struct {
		change func(*platformv1alpha1.AtlasStackSpec)
		says   string
	}{
		"an image without a tag": {func(s *platformv1alpha1.AtlasStackSpec) { s.Image = "localhost/atlas" }, "tag"},
		"the tag latest":         {func(s *platformv1alpha1.AtlasStackSpec) { s.Image = "localhost/atlas:latest" }, "latest"},
		"a broker without port":  {func(s *platformv1alpha1.AtlasStackSpec) { s.Kafka.Brokers = []string{"kafka"} }, "brokers"},
		"credentials in a URL": {func(s *platformv1alpha1.AtlasStackSpec) {
			s.Elasticsearch.Addresses = []string{"http://me:secret@es:9200"}
		}, "addresses"},
		"no secret's name": {func(s *platformv1alpha1.AtlasStackSpec) { s.Postgres.URLSecretRef.Name = "" }, "urlSecretRef.name"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stack := second.stack.DeepCopy()
			c.change(&stack.Spec)
			err := e.cluster.Create(t.Context(), stack, ctrlclient.DryRunAll)
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			require.ErrorContains(t, err, c.says)
		})
	}
}
