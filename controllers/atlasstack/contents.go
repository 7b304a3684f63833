package atlasstack

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// content is what a Secret or a ConfigMap held at a version.
type content struct {
	version string
	data    map[string][]byte
}

// contents remembers what the Secrets and ConfigMaps that stacks refer to hold, so that looking at a stack again reads nothing. The manager's cache has only
// names and versions, of all of them.
type contents struct {
	mu   sync.Mutex
	held map[string]content // by kind, namespace and name
}

// get returns an object's content, from the API server unless the version that is held is the one that the cache knows. The error is NotFound when the API server
// does not have it.
func (c *contents) get(ctx context.Context, cache, live client.Reader, kind string, name types.NamespacedName) (content, error) {
	id := kind + "/" + name.String()
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	err := cache.Get(ctx, name, meta)
	if err != nil && !apierrors.IsNotFound(err) {
		return content{}, fmt.Errorf("look for %s %s: %w", kind, name.Name, err)
	}
	c.mu.Lock()
	held, ok := c.held[id]
	c.mu.Unlock()
	if ok && err == nil && held.version == meta.ResourceVersion {
		return held, nil
	}
	held, err = read(ctx, live, kind, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[string]content{}
	}
	if err != nil {
		delete(c.held, id)
		return content{}, err
	}
	c.held[id] = held
	return held, nil
}

// forget drops what is held of a namespace, whose other stacks read it again.
func (c *contents) forget(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.held, func(id string, _ content) bool {
		_, name, _ := strings.Cut(id, "/")
		return strings.HasPrefix(name, namespace+"/")
	})
}

func read(ctx context.Context, live client.Reader, kind string, name types.NamespacedName) (content, error) {
	secret, config := &corev1.Secret{}, &corev1.ConfigMap{}
	var object client.Object = secret
	if kind != "Secret" {
		object = config
	}
	if err := live.Get(ctx, name, object); err != nil {
		return content{}, fmt.Errorf("read %s %s: %w", kind, name.Name, err)
	}
	out := content{version: object.GetResourceVersion(), data: secret.Data}
	if kind != "Secret" {
		out.data = map[string][]byte{}
		maps.Copy(out.data, config.BinaryData)
		for key, value := range config.Data {
			out.data[key] = []byte(value)
		}
	}
	return out, nil
}
