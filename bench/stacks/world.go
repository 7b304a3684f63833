package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/rbactest"
)

// operatorMetrics is where the operator serves its metrics.
const operatorMetrics = "127.0.0.1:18080"

// world is everything around the operator, and the operator.
type world struct {
	env      *envtest.Environment
	client   ctrlclient.WithWatch
	kafka    *kfake.Cluster
	elastic  *httptest.Server
	mute     net.Listener
	config   string // the operator's kubeconfig
	folder   string
	operator *exec.Cmd
	program  string
	end      context.CancelFunc
	missed   int
}

func start(ctx context.Context, o options) (w *world, err error) {
	w = &world{program: o.operator}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	if w.folder, err = os.MkdirTemp("", "atlas-stacks-"); err != nil {
		return w, fmt.Errorf("make a folder: %w", err)
	}
	w.env = &envtest.Environment{CRDDirectoryPaths: []string{o.crds}, ErrorIfCRDPathMissing: true}
	w.env.ControlPlane.GetAPIServer().Configure().Append("max-requests-inflight", "800").Append("max-mutating-requests-inflight", "400").
		Set("service-cluster-ip-range", "10.0.0.0/16") // the default has room for 254 Services
	config, err := w.env.Start()
	if err != nil {
		return w, fmt.Errorf("start the API server: %w", err)
	}
	config.QPS = -1
	if w.client, err = newClient(config); err != nil {
		return w, err
	}
	if err := w.user(ctx, o.role); err != nil {
		return w, err
	}
	if w.kafka, err = kfake.NewCluster(kfake.NumBrokers(1)); err != nil {
		return w, fmt.Errorf("start the stand-in for Kafka: %w", err)
	}
	w.elastic = httptest.NewServer(newElastic())
	if w.mute, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return w, fmt.Errorf("listen: %w", err)
	}
	go hold(w.mute)
	var playing context.Context
	playing, w.end = context.WithCancel(ctx)
	return w, w.play(playing)
}

func newClient(config *rest.Config) (ctrlclient.WithWatch, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register the kinds: %w", err)
	}
	c, err := ctrlclient.NewWithWatch(config, ctrlclient.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	return c, nil
}

// user is who the operator is, with its own role and nothing else.
func (w *world) user(ctx context.Context, path string) error {
	user, err := rbactest.Operator(ctx, w.env, w.client, path)
	if err != nil {
		return err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return fmt.Errorf("make the operator's kubeconfig: %w", err)
	}
	w.config = filepath.Join(w.folder, "kubeconfig")
	return os.WriteFile(w.config, kubeconfig, 0o600)
}

// hold takes connections and says nothing.
func hold(listener net.Listener) {
	var held []net.Conn
	for {
		conn, err := listener.Accept()
		if err != nil {
			for _, conn := range held {
				_ = conn.Close()
			}
			return
		}
		held = append(held, conn)
	}
}

// run starts the operator.
func (w *world) run(ctx context.Context) error {
	log, err := os.Create(filepath.Join(w.folder, "operator-"+strconv.FormatInt(time.Now().UnixNano(), 10)+".log"))
	if err != nil {
		return fmt.Errorf("make the operator's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	w.operator = exec.CommandContext(ctx, w.program, "--metrics-bind-address="+operatorMetrics, "--health-probe-bind-address=127.0.0.1:0", "--log-level=warn") //nolint:gosec // the user names it
	// What it does by itself in a container with the chart's limit of 256 MiB.
	w.operator.Env = append(os.Environ(), "KUBECONFIG="+w.config, "GOMEMLIMIT=204MiB")
	w.operator.Stdout, w.operator.Stderr = log, log
	if err := w.operator.Start(); err != nil {
		return fmt.Errorf("start the operator: %w", err)
	}
	return nil
}

// quit ends the operator as Kubernetes does.
func (w *world) quit() error {
	if w.operator == nil {
		return nil
	}
	err := w.operator.Process.Signal(syscall.SIGTERM)
	_ = w.operator.Wait() // it was told to end
	w.operator = nil
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the operator: %w", err)
	}
	return nil
}

// memory is a figure of the operator's from /proc, in bytes: VmRSS or VmHWM.
func (w *world) memory(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.operator.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the operator's memory: %w", err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc has no %s", field)
}

func (w *world) stop() error {
	err := w.quit()
	if w.end != nil {
		w.end()
	}
	if w.mute != nil {
		err = errors.Join(err, w.mute.Close())
	}
	if w.elastic != nil {
		w.elastic.Close()
	}
	if w.kafka != nil {
		w.kafka.Close()
	}
	if w.env != nil {
		err = errors.Join(err, w.env.Stop())
	}
	if w.folder != "" && w.missed == 0 {
		err = errors.Join(err, os.RemoveAll(w.folder))
	}
	return err
}

// stack is the i-th one.
func (w *world) stack(namespace, name string, i int, broker string) *v1alpha1.AtlasStack {
	return &v1alpha1.AtlasStack{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.AtlasStackSpec{
			Image:    "registry.example.com/atlas:1.0.0",
			Postgres: v1alpha1.PostgresSpec{URLSecretRef: corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name + "-postgres"}, Key: "url"}},
			Kafka:    v1alpha1.KafkaSpec{Brokers: []string{broker}, Topic: v1alpha1.TopicSpec{Name: fmt.Sprintf("atlas-%d", i), Partitions: 1}},
			Elasticsearch: v1alpha1.ElasticsearchSpec{
				Addresses: []string{w.elastic.URL}, Index: v1alpha1.IndexSpec{Alias: fmt.Sprintf("atlas-%d", i)},
			},
		},
	}
}

func (w *world) create(ctx context.Context, stack *v1alpha1.AtlasStack) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: stack.Name + "-postgres"},
		StringData: map[string]string{"url": "postgres://atlas:secret@db:5432/" + stack.Name},
	}
	if err := errors.Join(w.client.Create(ctx, secret), w.client.Create(ctx, stack)); err != nil {
		return fmt.Errorf("create AtlasStack %s: %w", stack.Name, err)
	}
	return nil
}
