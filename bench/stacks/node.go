package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/pause"
)

// cleaning is how long the stacks may take to go.
const cleaning = 2 * time.Minute

// node measures a few stacks with pods on the cluster that KUBECONFIG names, beside the stack that `bin/devenv up stack` installs, on the same servers.
func node(ctx context.Context, o options) (err error) {
	w := &world{}
	if w.client, err = reach(); err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return fmt.Errorf("reach the database of DATABASE_URL: %w", err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	defer func() { err = errors.Join(err, w.clean(context.WithoutCancel(ctx), db, o)) }()
	begin := time.Now()
	for i := range o.node {
		if err := w.createReal(ctx, db, i); err != nil {
			return err
		}
	}
	if err := w.allReady(ctx, o.node+1); err != nil {
		return err
	}
	fmt.Printf("%d AtlasStacks on a node\n\n| | | wanted |\n|---|---|---|\n", o.node)
	w.tell(fmt.Sprintf("%d stacks created and Ready, every pod serving", o.node), time.Since(begin).Round(100*time.Millisecond).String(), "", true)
	alone, err := w.asked(ctx, options{stacks: o.node, namespaces: o.node})
	if err != nil {
		return err
	}
	w.tell(fmt.Sprintf("a stack is looked at when asked, p50 and p99 of %d", probes), fmt.Sprintf("%s, %s", alone[probes/2], alone[probes*99/100]), "", true)
	before, err := w.pods(ctx, o.node)
	if err != nil {
		return err
	}
	if err := w.replaceOperator(ctx); err != nil {
		return err
	}
	after, err := w.pods(ctx, o.node)
	if err != nil {
		return err
	}
	w.tell(fmt.Sprintf("of %d pods, replaced or restarted by a restart of the operator", len(before)), fmt.Sprint(len(before)-same(before, after)), "0",
		maps.Equal(before, after))
	if w.missed > 0 {
		return fmt.Errorf("%d figures are missed", w.missed)
	}
	return nil
}

func reach() (ctrlclient.WithWatch, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, fmt.Errorf("find the cluster of KUBECONFIG: %w", err)
	}
	return newClient(config)
}

func database(i int) string { return fmt.Sprintf("bench_%d", i) }

// createReal makes a stack like the one that is there, with a database, topic and alias of its own, which go with it.
func (w *world) createReal(ctx context.Context, db *pgx.Conn, i int) error {
	model, credentials := &v1alpha1.AtlasStack{}, &corev1.Secret{}
	if err := w.client.Get(ctx, ctrlclient.ObjectKey{Namespace: "atlas", Name: "atlas"}, model); err != nil {
		return fmt.Errorf("read the stack that is there: %w", err)
	}
	ref := model.Spec.Postgres.URLSecretRef
	if err := w.client.Get(ctx, ctrlclient.ObjectKey{Namespace: "atlas", Name: ref.Name}, credentials); err != nil {
		return fmt.Errorf("read its Secret: %w", err)
	}
	address, err := url.Parse(string(credentials.Data[ref.Key]))
	if err != nil {
		return fmt.Errorf("read its database's URL: %w", err)
	}
	address.Path = "/" + database(i)
	if _, err := db.Exec(ctx, "CREATE DATABASE "+database(i)); err != nil {
		return fmt.Errorf("create a database: %w", err)
	}
	stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i), Name: name(i)}, Spec: *model.Spec.DeepCopy()}
	stack.Spec.Kafka.Topic.Name, stack.Spec.Elasticsearch.Index.Alias = "bench."+name(i), "bench-"+name(i)
	stack.Spec.Kafka.DeletionPolicy, stack.Spec.Elasticsearch.DeletionPolicy = v1alpha1.DeletionDelete, v1alpha1.DeletionDelete
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: ref.Name}, StringData: map[string]string{ref.Key: address.String()}}
	enforced := map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
	return errors.Join(
		w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: stack.Namespace, Labels: enforced}}),
		w.client.Create(ctx, secret), w.client.Create(ctx, stack))
}

// pods are how often the containers of each were restarted, by the pod's UID.
func (w *world) pods(ctx context.Context, namespaces int) (map[string]int32, error) {
	out := map[string]int32{}
	for i := range namespaces {
		list := &corev1.PodList{}
		if err := w.client.List(ctx, list, ctrlclient.InNamespace(namespace(i))); err != nil {
			return nil, fmt.Errorf("list the pods: %w", err)
		}
		for _, pod := range list.Items {
			if pod.Status.Phase != corev1.PodRunning {
				continue // a migration's
			}
			restarts := int32(0)
			for _, container := range pod.Status.ContainerStatuses {
				restarts += container.RestartCount
			}
			out[string(pod.UID)] = restarts
		}
	}
	return out, nil
}

func same(before, after map[string]int32) (n int) {
	for uid, restarts := range before {
		if now, ok := after[uid]; ok && now == restarts {
			n++
		}
	}
	return n
}

// replaceOperator deletes the operator's pod, and gives the next one time to look at every stack.
func (w *world) replaceOperator(ctx context.Context) error {
	list := &appsv1.DeploymentList{}
	labels := ctrlclient.MatchingLabels{"app.kubernetes.io/name": "atlas-operator"}
	if err := w.client.List(ctx, list, labels); err != nil || len(list.Items) != 1 {
		return fmt.Errorf("find the operator, %d Deployments: %w", len(list.Items), err)
	}
	err := w.client.DeleteAllOf(ctx, &corev1.Pod{}, ctrlclient.InNamespace(list.Items[0].Namespace), labels)
	if err != nil {
		return fmt.Errorf("delete the operator's pod: %w", err)
	}
	return pause.For(ctx, settling)
}

// clean removes what was made.
func (w *world) clean(ctx context.Context, db *pgx.Conn, o options) (err error) {
	stacks := &v1alpha1.AtlasStackList{}
	err = wait.PollUntilContextTimeout(ctx, time.Second, cleaning, true, func(ctx context.Context) (bool, error) {
		for i := range o.node {
			stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i), Name: name(i)}}
			if err := w.client.Delete(ctx, stack); ctrlclient.IgnoreNotFound(err) != nil {
				return false, err
			}
		}
		err := w.client.List(ctx, stacks)
		return len(stacks.Items) == 1, err
	})
	for i := range o.node {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace(i)}}
		err = errors.Join(err, ctrlclient.IgnoreNotFound(w.client.Delete(ctx, ns)))
		_, failed := db.Exec(ctx, "DROP DATABASE IF EXISTS "+database(i)+" WITH (FORCE)")
		err = errors.Join(err, failed)
	}
	return err
}
