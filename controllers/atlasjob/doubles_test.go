package atlasjob

import (
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// controllerOptions let several tests of one process use the controller's name.
var controllerOptions = config.Controller{SkipNameValidation: new(true)}

func cacheOf(namespace string) cache.Options {
	return cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}}
}

// staleClient reads a job from a cache that is behind, and writes to the real API server.
type staleClient struct {
	client.Client
	job *platformv1alpha1.AtlasJob
}

func (c staleClient) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	if job, ok := object.(*platformv1alpha1.AtlasJob); ok {
		c.job.DeepCopyInto(job)
		return nil
	}
	return c.Client.Get(ctx, key, object, options...)
}

// failingStatus can't write status.
type failingStatus struct{ client.Client }

func (failingStatus) Status() client.SubResourceWriter { return failingWriter{} }

type failingWriter struct{ client.SubResourceWriter }

func (failingWriter) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return errors.New("the API server is away")
}
