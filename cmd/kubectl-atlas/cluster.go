package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// where says which cluster and namespace are meant.
type where struct {
	rules     *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
}

// cluster is one cluster, as the user may see it.
type cluster struct {
	client.Client
	kube      kubernetes.Interface
	config    *rest.Config
	namespace string
}

func (w *where) connect() (*cluster, error) {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(w.rules, &w.overrides)
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("find the namespace: %w", err)
	}
	config.QPS, config.Burst = 50, 100 // a person waits
	return connect(config, namespace)
}

func connect(config *rest.Config, namespace string) (*cluster, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register the kinds: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reach the cluster: %w", err)
	}
	return &cluster{Client: c, kube: kube, config: config, namespace: namespace}, nil
}

// stack is the one that the arguments name, or the only one of the namespace.
func (c *cluster) stack(ctx context.Context, args []string) (*v1alpha1.AtlasStack, error) {
	if len(args) > 0 {
		stack := &v1alpha1.AtlasStack{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: args[0]}, stack); err != nil {
			return nil, c.explain(err)
		}
		return stack, nil
	}
	list := &v1alpha1.AtlasStackList{}
	if err := c.List(ctx, list, client.InNamespace(c.namespace)); err != nil {
		return nil, c.explain(err)
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	switch len(names) {
	case 0:
		return nil, fmt.Errorf("there is no AtlasStack in namespace %s: name another one with -n", c.namespace)
	case 1:
		return &list.Items[0], nil
	}
	return nil, fmt.Errorf("namespace %s has %d AtlasStacks, name one: %s", c.namespace, len(names), strings.Join(names, ", "))
}

// explain says what to do about an error of the API server.
func (c *cluster) explain(err error) error {
	if meta.IsNoMatchError(err) {
		return errors.New("this cluster does not know AtlasStacks: install the operator first")
	}
	return err
}
