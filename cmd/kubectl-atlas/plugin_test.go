package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/testenv"
)

const namespace = "plugin"

func setup(t *testing.T) *cluster {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd")}, ErrorIfCRDPathMissing: true}
	config, err := env.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, env.Stop()) })
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return kubelet{next} })
	c, err := connect(config, namespace)
	require.NoError(t, err)
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	return c
}

// kubelet answers for logs, which no pod here has.
type kubelet struct{ http.RoundTripper }

func (k kubelet) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/pods/atlas-operator-x/log") {
		return k.RoundTripper.RoundTrip(r)
	}
	answer := httptest.NewRecorder()
	_, err := io.WriteString(answer, `{"msg":"of the stack","namespace":"plugin","url":"postgres://atlas:pa55word@db"}
{"msg":"of others","namespace":"other"}
{"msg":"Server rejected event (will not retry!)","event":{"metadata":{"namespace":"other"},"note":"of others"}}
{"msg":"refused literalpw99","namespace":"plugin"}
{"msg":"of nobody"}
panic: goroutine 1 [running]
`)
	return answer.Result(), err
}

// runOperator has an operator's pod, which was restarted once.
func (c *cluster) runOperator(t *testing.T) {
	t.Helper()
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "atlas-system"}}))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "atlas-system", Name: "atlas-operator-x", Labels: map[string]string{operatorLabel: operatorName}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "operator", Image: "operator:1"}}},
	}
	require.NoError(t, c.Create(t.Context(), pod))
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "operator", RestartCount: 1}}
	require.NoError(t, c.Status().Update(t.Context(), pod))
}

// TestStatusSaysHowConditionsHaveToBeRead: marks of long ago look like those of now.
func TestStatusSaysHowConditionsHaveToBeRead(t *testing.T) {
	t.Parallel()
	at := metav1.NewTime(time.Date(2026, 1, 22, 10, 0, 0, 0, time.UTC))
	ready := func(reason string) v1alpha1.AtlasStackStatus {
		return v1alpha1.AtlasStackStatus{ObservedGeneration: 1, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: reason, LastTransitionTime: at}}}
	}
	for _, tc := range []struct {
		paused bool
		status v1alpha1.AtlasStackStatus
		says   string
	}{
		{false, v1alpha1.AtlasStackStatus{ObservedGeneration: -1}, "no operator has seen this stack: one has to run and to watch the namespace team"},
		{true, v1alpha1.AtlasStackStatus{ObservedGeneration: -1}, "no operator has seen this stack"},
		{false, ready(v1alpha1.ReasonReady), ""},
		{true, ready(v1alpha1.ReasonPaused), "are not kept up, Ready is Unknown since 2026-01-22T10:00:00Z: the others may be older than what is so now; `kubectl atlas resume demo`"},
		{true, ready(v1alpha1.ReasonReady), "no operator has seen yet that it is paused"},
	} {
		stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "demo"}, Status: tc.status}
		stack.Spec.Paused = tc.paused
		var out bytes.Buffer
		report{Beware: beware(stack), Conditions: stack.Status.Conditions}.print(&out, at.Time)
		if tc.says == "" {
			require.NotContains(t, out.String(), "!")
		}
		require.Contains(t, out.String(), tc.says)
	}
}

func (c *cluster) make(t *testing.T, name string) *v1alpha1.AtlasStack {
	t.Helper()
	stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1alpha1.AtlasStackSpec{
		Image:         "registry.example.com/atlas:1",
		API:           v1alpha1.ComponentSpec{PodTemplate: &runtime.RawExtension{Raw: []byte(`{"spec":{"containers":[{"name":"atlas","env":[{"name":"MY_PASSWORD","value":"literalpw99"}]}]}}`)}},
		Postgres:      v1alpha1.PostgresSpec{URLSecretRef: corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "postgres"}, Key: "url"}},
		Kafka:         v1alpha1.KafkaSpec{Brokers: []string{"kafka:9092"}},
		Elasticsearch: v1alpha1.ElasticsearchSpec{Addresses: []string{"http://elasticsearch:9200"}},
	}}
	require.NoError(t, c.Create(t.Context(), stack))
	return stack
}

// literals makes a Deployment of the stack demo with a secret in plain text, and an Event that tells it.
func (c *cluster) literals(t *testing.T) {
	t.Helper()
	labels := map[string]string{stackLabel: "demo"}
	container := corev1.Container{Name: "atlas", Image: "atlas:1", Env: []corev1.EnvVar{{Name: "MY_PASSWORD", Value: "literalpw99"}, {Name: "LOG_LEVEL", Value: "plain-value"}}}
	applied, err := json.Marshal(container)
	require.NoError(t, err)
	meta := metav1.ObjectMeta{Namespace: namespace, Name: "demo-api", Labels: labels, Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: string(applied)}}
	require.NoError(t, c.Create(t.Context(), &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{container}}},
	}}))
	require.NoError(t, c.Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo.1"}, InvolvedObject: corev1.ObjectReference{Namespace: namespace, Name: "demo"}, Message: "said literalpw99 and s3c5 and plain-value",
	}))
}

// TestPlugin goes through what a user does with one stack, against a real API server. What needs pods that run is tested on a node, in test/e2e.
func TestPlugin(t *testing.T) {
	t.Parallel()
	c := setup(t)
	ctx := t.Context()
	_, err := c.stack(ctx, nil)
	require.ErrorContains(t, err, "there is no AtlasStack in namespace plugin")
	stack := c.make(t, "demo")
	require.NoError(t, c.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "postgres"}, StringData: map[string]string{"url": "postgres://atlas:pa55word@db:5432/atlas", "username": "atlas-user", "password": "s3c5"},
	}))
	c.literals(t)

	said, err := c.change(ctx, nil, pause(true))
	require.NoError(t, err)
	require.Contains(t, said, "AtlasStack demo paused")
	said, err = c.change(ctx, nil, pause(true))
	require.NoError(t, err)
	require.Contains(t, said, "was so already")
	_, err = c.reconcile(ctx, nil, time.Second)
	require.ErrorContains(t, err, "is paused")
	_, err = c.change(ctx, nil, pause(false))
	require.NoError(t, err)
	_, err = c.change(ctx, []string{"demo"}, hibernate(true))
	require.NoError(t, err)
	require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(stack), stack))
	require.True(t, stack.Spec.Hibernate)
	require.False(t, stack.Spec.Paused)

	_, err = c.reconcile(ctx, nil, 300*time.Millisecond)
	require.ErrorContains(t, err, "the operator did not look at AtlasStack demo")
	operator, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.handle(operator) }()
	_, err = c.reconcile(ctx, nil, time.Minute)
	stop()
	require.NoError(t, errors.Join(err, <-done))

	job, err := c.reindex(ctx, nil)
	require.NoError(t, err)
	require.Equal(t, "demo", job.Spec.StackRef.Name)
	report, err := c.report(ctx, stack)
	require.NoError(t, err)
	var out bytes.Buffer
	report.print(&out, time.Now())
	require.Contains(t, out.String(), "AtlasStack plugin/demo  ?  the operator has not looked at it yet; hibernates")
	require.Contains(t, out.String(), job.Name+"  reindex  Pending")

	require.Contains(t, out.String(), "! no operator has seen this stack: one has to run and to watch the namespace plugin")
	c.runOperator(t)
	files := c.bundled(t, stack)
	log := files["atlas-demo/operator/atlas-operator-x/operator.log"]
	require.Contains(t, log, "of the stack")
	require.Contains(t, log, "of nobody")
	require.Contains(t, log, "goroutine 1")
	require.NotContains(t, log, "of others")
	require.Contains(t, files, "atlas-demo/operator/atlas-operator-x/operator.previous.log")
	require.Contains(t, files, "atlas-demo/AtlasStack/demo.yaml")
	require.Contains(t, files, "atlas-demo/AtlasJob/"+job.Name+".yaml")
	require.Contains(t, files["atlas-demo/secret-keys.yaml"], "url")
	for name, content := range files {
		for _, secret := range []string{"pa55word", "literalpw99", "s3c5"} {
			require.NotContains(t, content, secret, name)
		}
	}
	for name, says := range map[string]string{
		"Deployment/demo-api.yaml": "MY_PASSWORD", "AtlasStack/demo.yaml": "MY_PASSWORD", "Event/demo.1.yaml": "said [redacted] and [redacted] and plain-value", "operator/atlas-operator-x/operator.log": "refused [redacted]",
	} {
		require.Contains(t, files["atlas-demo/"+name], says)
	}

	logs := func(roles ...string) error { return c.logs(ctx, io.Discard, stack, roles, &corev1.PodLogOptions{}) }
	require.ErrorContains(t, logs("api", "foo"), `there is no role "foo": the roles are api, indexer, audit, worker, migrate`)
	require.ErrorContains(t, logs("api"), "AtlasStack demo has no pod of the role api now")
	require.ErrorContains(t, logs(), "AtlasStack demo has no pod now")

	c.make(t, "other")
	_, err = c.stack(ctx, nil)
	require.ErrorContains(t, err, "has 2 AtlasStacks, name one: demo, other")
	_, err = c.stack(ctx, []string{"missing"})
	require.True(t, apierrors.IsNotFound(err))
}

// handle plays the operator until the context ends: it handles requests to reconcile.
func (c *cluster) handle(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		stack, err := c.stack(ctx, nil)
		if err != nil {
			return false, err
		}
		before := stack.DeepCopy()
		stack.Status.LastHandledReconcileAt = stack.Annotations[v1alpha1.ReconcileRequestAnnotation]
		return false, c.Status().Patch(ctx, stack, client.MergeFrom(before))
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was told to stop
	}
	return err
}

// bundled are the files of a support bundle.
func (c *cluster) bundled(t *testing.T, stack *v1alpha1.AtlasStack) map[string]string {
	t.Helper()
	name := path.Join(t.TempDir(), "bundle.tar.gz")
	var content bytes.Buffer
	require.NoError(t, writeFile(name, func(out io.Writer) error {
		missing, err := c.bundle(t.Context(), io.MultiWriter(out, &content), stack, "")
		require.Empty(t, missing)
		return err
	}))
	require.ErrorContains(t, writeFile(name, func(io.Writer) error { return nil }), "exists")
	zipped, err := gzip.NewReader(&content)
	require.NoError(t, err)
	files := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		require.False(t, header.ModTime.After(time.Now()), "%s is from the future: %s", header.Name, header.ModTime)
		body, err := io.ReadAll(archive)
		require.NoError(t, err)
		files[header.Name] = string(body)
	}
}

// TestCommandLine: every command explains itself, and kubectl's flags are understood.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	root := rootCommand()
	for _, cmd := range root.Commands() {
		require.NotEmpty(t, cmd.Short, cmd.Name())
	}
	var out strings.Builder
	root.SetOut(&out)
	root.SetArgs([]string{"status", "--help"})
	require.NoError(t, root.ExecuteContext(t.Context()))
	require.Contains(t, out.String(), "kubectl atlas status [STACK]")
	require.Contains(t, out.String(), "--namespace")
	_, err := (&where{rules: &clientcmd.ClientConfigLoadingRules{ExplicitPath: path.Join(t.TempDir(), "none")}}).connect()
	require.ErrorContains(t, err, "find the cluster")
}
