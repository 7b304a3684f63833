package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/internal/testenv"
)

// delete removes the stack, whose policies say that topic and index go with it. Nothing but Secrets is left in its namespace.
func (l *lifecycle) delete(t *testing.T) {
	topic := l.stack.Spec.Kafka.Topic.Name
	require.Contains(t, topics(t), topic)
	require.NotEmpty(t, groups(t, topic), "the consumers have had groups")
	require.NotEmpty(t, l.indices(t))
	require.NoError(t, l.cluster.Delete(t.Context(), l.stack))
	eventually(t, readyWithin, "the stack is gone", func(ctx context.Context) error {
		if err := l.cluster.Get(ctx, l.key, l.stack); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there (%w): %v", err, l.stack.Status.Conditions)
		}
		return nil
	})
	require.NotContains(t, topics(t), topic)
	require.NotContains(t, topics(t), topic+".dlq")
	require.Empty(t, groups(t, topic))
	require.Empty(t, l.indices(t))
	var templates struct {
		IndexTemplates []struct {
			Name string `json:"name"`
		} `json:"index_templates"`
	}
	esGet(t.Context(), t, "/_index_template", &templates)
	for _, template := range templates.IndexTemplates {
		require.False(t, strings.HasPrefix(template.Name, l.stack.Spec.Elasticsearch.Index.Alias), template.Name)
	}
	eventually(t, readyWithin, "nothing but Secrets is left", func(ctx context.Context) error {
		if left := l.left(ctx, t); len(left) > 0 {
			return fmt.Errorf("left: %s", strings.Join(left, ", "))
		}
		return nil
	})
	secrets := &metav1.PartialObjectMetadataList{}
	secrets.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "SecretList"})
	require.NoError(t, l.cluster.List(t.Context(), secrets, ctrlclient.InNamespace(l.key.Namespace)))
	var names []string
	for _, secret := range secrets.Items {
		names = append(names, secret.Name)
	}
	kept := []string{"database", elasticSecret, l.name("admin").Name, l.name("auth").Name}
	if l.kafka != nil {
		kept = append(kept, kafkaSecret)
	}
	require.ElementsMatch(t, kept, names, "what the data need is kept")
}

// left are the objects of every kind in the namespace, without Secrets, Events and what Kubernetes puts into each namespace.
func (l *lifecycle) left(ctx context.Context, t *testing.T) []string {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", testenv.Require(t, testenv.Kubeconfig))
	require.NoError(t, err)
	server, err := discovery.NewDiscoveryClientForConfig(config)
	require.NoError(t, err)
	lists, err := server.ServerPreferredNamespacedResources()
	require.NoError(t, err)
	var left []string
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "delete"}}, lists) {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, resource := range list.APIResources {
			if resource.Kind == "Secret" || resource.Kind == "Event" {
				continue
			}
			found := &metav1.PartialObjectMetadataList{}
			found.SetGroupVersionKind(version.WithKind(resource.Kind + "List"))
			require.NoError(t, l.cluster.List(ctx, found, ctrlclient.InNamespace(l.key.Namespace)), resource.Kind)
			for _, object := range found.Items {
				name := resource.Kind + "/" + object.Name
				if name != "ConfigMap/kube-root-ca.crt" && name != "ServiceAccount/default" {
					left = append(left, name)
				}
			}
		}
	}
	return left
}

// indices are those whose names begin with the stack's alias.
func (l *lifecycle) indices(t *testing.T) []string {
	t.Helper()
	var found map[string]any
	esGet(t.Context(), t, "/"+l.stack.Spec.Elasticsearch.Index.Alias+"*?expand_wildcards=all", &found)
	var names []string
	for name := range found {
		names = append(names, name)
	}
	return names
}

// groups are the consumer groups whose names begin with the topic's.
func groups(t *testing.T, topic string) []string {
	t.Helper()
	admin := kafkaAdmin(t)
	defer func() { require.NoError(t, admin.Close()) }()
	all, err := admin.ListConsumerGroups()
	require.NoError(t, err)
	var names []string
	for name := range all {
		if strings.HasPrefix(name, topic) {
			names = append(names, name)
		}
	}
	return names
}
