package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// bundleLog is how many of the last lines of each log are taken.
const bundleLog = 5000

func bundleCommand(where *where) *cobra.Command {
	var file, operatorNamespace string
	cmd := &cobra.Command{
		Use: "support-bundle [STACK]", Short: "Write all that helps to explain a problem into an archive, without secrets", GroupID: "look", Args: cobra.MaximumNArgs(1),
		Long: "Write all that helps to explain a problem into an archive: the stack, its jobs and schedules, what the operator made of them, events, logs and metrics, and what the operator's log says of the stack's namespace. " +
			"Of Secrets it has the names and keys only. Their values, where you may read them, the values of environment variables that are named like a secret, and what looks like a credential are taken out of everything else. " +
			"A secret of less than eight characters is found as a whole word where its name says that it is one (password, token, key …), one of less than four is not. Look into it before you pass it on.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.connect()
			if err != nil {
				return err
			}
			stack, err := c.stack(cmd.Context(), args)
			if err != nil {
				return err
			}
			if file == "" {
				file = fmt.Sprintf("atlas-%s-%s-%s.tar.gz", stack.Namespace, stack.Name, time.Now().UTC().Format("20060102T150405Z"))
			}
			return writeFile(file, func(out io.Writer) error {
				missing, err := c.bundle(cmd.Context(), out, stack, operatorNamespace)
				if err != nil {
					return err
				}
				for _, m := range missing {
					fmt.Fprintln(cmd.ErrOrStderr(), "left out:", m)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s was written; look into it before you pass it on\n", file)
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the archive's name (default atlas-NAMESPACE-STACK-TIME.tar.gz)")
	cmd.Flags().StringVar(&operatorNamespace, "operator-namespace", "", "where the operator is, for its logs (default: it is looked for in every namespace)")
	return cmd
}

// writeFile makes a new file that only its owner can read, and leaves none behind when it fails.
func writeFile(name string, write func(io.Writer) error) error {
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	if err := errors.Join(write(out), out.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// collector puts files into an archive, and remembers what could not be had.
type collector struct {
	*cluster
	stack    *v1alpha1.AtlasStack
	redactor redactor
	out      *tar.Writer
	missing  []string
	// uses are the namespaces of the Services that the namespace's stacks and Secrets name.
	uses []string
}

func (c *cluster) bundle(ctx context.Context, out io.Writer, stack *v1alpha1.AtlasStack, operatorNamespace string) (missing []string, err error) {
	zipped := gzip.NewWriter(out)
	b := &collector{cluster: c, stack: stack, out: tar.NewWriter(zipped)}
	keys := b.secrets(ctx)
	var objects []unstructured.Unstructured
	for _, kind := range kinds() {
		objects = append(objects, b.list(ctx, kind)...)
	}
	// Everything is looked through for secrets before the first file is written: what is plain in one object may be in another's messages.
	for i := range objects {
		b.redactor.knowObject(objects[i].Object)
		if spec, err := json.Marshal(objects[i].Object["spec"]); err == nil && objects[i].GetKind() == "AtlasStack" {
			b.uses = append(b.uses, servicesIn(spec)...)
		}
	}
	b.add("about.yaml", map[string]any{"time": time.Now().UTC(), "namespace": stack.Namespace, "stack": stack.Name})
	if keys != nil {
		b.add("secret-keys.yaml", keys)
	}
	for i := range objects {
		b.add(path.Join(objects[i].GetKind(), objects[i].GetName()+".yaml"), objects[i].Object)
	}
	b.pods(ctx)
	b.operator(ctx, operatorNamespace)
	if report, err := c.report(ctx, stack); err != nil {
		b.miss("status", err)
	} else {
		b.add("status.yaml", report)
	}
	return b.missing, errors.Join(b.out.Close(), zipped.Close())
}

// kind is a kind to take, of the stack's namespace.
type kind struct {
	schema.GroupVersionKind
	// labelled kinds are taken where they have the stack's label only.
	labelled bool
}

func kinds() []kind {
	of := func(group, version string, labelled bool, names ...string) (out []kind) {
		for _, name := range names {
			out = append(out, kind{schema.GroupVersionKind{Group: group, Version: version, Kind: name}, labelled})
		}
		return out
	}
	var out []kind
	out = append(out, of(v1alpha1.GroupVersion.Group, v1alpha1.GroupVersion.Version, false, "AtlasStack", "AtlasJob", "AtlasSchedule")...)
	out = append(out, of("apps", "v1", true, "Deployment", "ReplicaSet")...)
	out = append(out, of("batch", "v1", true, "Job")...)
	out = append(out, of("", "v1", true, "Pod", "Service", "ServiceAccount")...)
	out = append(out, of("discovery.k8s.io", "v1", true, "EndpointSlice")...)
	out = append(out, of("policy", "v1", true, "PodDisruptionBudget")...)
	out = append(out, of("autoscaling", "v2", true, "HorizontalPodAutoscaler")...)
	out = append(out, of("networking.k8s.io", "v1", true, "Ingress", "NetworkPolicy")...)
	out = append(out, of("gateway.networking.k8s.io", "v1", true, "HTTPRoute")...)
	out = append(out, of("monitoring.coreos.com", "v1", true, "ServiceMonitor", "PodMonitor")...)
	out = append(out, of("keda.sh", "v1alpha1", true, "ScaledObject", "TriggerAuthentication")...)
	return append(out, of("", "v1", false, "Event")...)
}

// secrets learns the values of the namespace's Secrets, so that they can be taken out, and returns their keys.
func (b *collector) secrets(ctx context.Context) map[string][]string {
	list := &corev1.SecretList{}
	if err := b.List(ctx, list, client.InNamespace(b.stack.Namespace)); err != nil {
		b.miss("Secrets (their values can't be taken out of the logs by themselves)", err)
		return nil
	}
	keys := map[string][]string{}
	for i := range list.Items {
		names := []string{}
		for key, value := range list.Items[i].Data {
			b.uses = append(b.uses, servicesIn(value)...)
			names = append(names, key)
			if !public(key) {
				b.redactor.know(key, value)
			}
		}
		slices.Sort(names)
		keys[list.Items[i].Name] = names
	}
	return keys
}

// public tells of the key of a Secret that its value is no secret: without a name or a certificate the rest would make no sense.
func public(key string) bool {
	return slices.Contains([]string{"username", "email", "ca.crt", corev1.TLSCertKey, "clientId", "accessKeyID", "signing-key-made", "namespace"}, key)
}

func (b *collector) list(ctx context.Context, k kind) []unstructured.Unstructured {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(k.GroupVersion().WithKind(k.Kind + "List"))
	options := []client.ListOption{client.InNamespace(b.stack.Namespace)}
	if k.labelled {
		options = append(options, client.MatchingLabels{stackLabel: b.stack.Name})
	}
	err := b.List(ctx, list, options...)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil // the cluster does not have this kind
	}
	if err != nil {
		b.miss(k.Kind, err)
		return nil
	}
	for i := range list.Items {
		list.Items[i].SetManagedFields(nil)
		// A list's items need not say what they are.
		list.Items[i].SetGroupVersionKind(k.GroupVersionKind)
	}
	return list.Items
}

// pods takes logs and metrics.
func (b *collector) pods(ctx context.Context) {
	pods := &corev1.PodList{}
	if err := b.List(ctx, pods, client.InNamespace(b.stack.Namespace), client.MatchingLabels{stackLabel: b.stack.Name}); err != nil {
		b.miss("logs", err)
		return
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		b.logs(ctx, p, "logs", bytes.Clone)
		if p.Status.Phase == corev1.PodRunning {
			text, err := b.kube.CoreV1().Pods(p.Namespace).ProxyGet("http", p.Name, opsPort, "/metrics", nil).DoRaw(ctx)
			b.addRaw(path.Join("metrics", p.Name+".txt"), text, err)
		}
	}
}

// logs takes what is to be kept of a pod's logs.
func (b *collector) logs(ctx context.Context, p *corev1.Pod, folder string, keep func([]byte) []byte) {
	lines := int64(bundleLog)
	for _, status := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		for _, previous := range []bool{false, true} {
			if previous && status.RestartCount == 0 {
				continue
			}
			name := path.Join(folder, p.Name, status.Name+map[bool]string{true: ".previous"}[previous]+".log")
			log, err := b.kube.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{
				Container: status.Name, Previous: previous, TailLines: &lines,
			}).DoRaw(ctx)
			b.addRaw(name, keep(log), err)
		}
	}
}

func (b *collector) miss(what string, err error) {
	b.missing = append(b.missing, fmt.Sprintf("%s: %v", what, err))
}

func (b *collector) add(name string, value any) {
	object, err := generic(value)
	var body []byte
	if err == nil {
		body, err = json.Marshal(b.redactor.object(object))
	}
	if err == nil {
		body, err = yaml.JSONToYAML(body)
	}
	b.addRaw(name, body, err)
}

func (b *collector) addRaw(name string, content []byte, err error) {
	if err == nil {
		content = b.redactor.redact(content)
		now := time.Now().Truncate(time.Second) // the archive has whole seconds: rounded up, tar would warn of files from the future
		err = b.out.WriteHeader(&tar.Header{Name: path.Join("atlas-"+b.stack.Name, name), Mode: 0o600, Size: int64(len(content)), ModTime: now})
	}
	if err == nil {
		_, err = b.out.Write(content)
	}
	if err != nil {
		b.miss(name, err)
	}
}
