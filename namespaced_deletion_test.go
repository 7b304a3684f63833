package main

import (
	"context"
	"fmt"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
)

// losesItsNamespace deletes the namespace of a stack with an unfinished AtlasJob as the namespace controller may do it: the operator's Role goes first. The stack has
// to go all the same, with its topic and its index, and so has the AtlasJob.
func (c *cluster) losesItsNamespace(operator client.Client, stack *v1alpha1.AtlasStack) {
	c.t.Helper()
	ctx, in := c.t.Context(), client.InNamespace(stack.Namespace)
	job := &v1alpha1.AtlasJob{}
	job.Namespace, job.Name = stack.Namespace, "reindex"
	job.Spec.StackRef.Name, job.Spec.Type, job.Spec.Reindex = stack.Name, v1alpha1.AtlasJobTypeReindex, &v1alpha1.ReindexJob{}
	require.NoError(c.t, c.Create(ctx, job))
	c.until(func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(job), job)
		return controllerutil.ContainsFinalizer(job, v1alpha1.CancelJobFinalizer), err
	}, func() string { return fmt.Sprint(job.Status.Conditions) })
	require.True(c.t, c.has(stack))

	require.NoError(c.t, c.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: stack.Namespace}}))
	for _, kind := range []client.Object{&rbacv1.RoleBinding{}, &rbacv1.Role{}} {
		require.NoError(c.t, c.DeleteAllOf(ctx, kind, in))
	}
	c.until(func(ctx context.Context) (bool, error) {
		err := operator.List(ctx, &corev1.PodList{}, in)
		return apierrors.IsForbidden(err), nil
	}, func() string { return "the operator goes on to have its rights" })
	for _, kind := range []client.Object{
		&corev1.Secret{}, &corev1.ConfigMap{}, &v1alpha1.AtlasStack{}, &v1alpha1.AtlasJob{}, &appsv1.Deployment{}, &batchv1.Job{}, &corev1.ServiceAccount{},
	} {
		require.NoError(c.t, c.DeleteAllOf(ctx, kind, in))
	}
	c.gone(job)
	c.gone(stack)
	require.False(c.t, c.has(stack), "the operator has read the credentials before")
}

// has is true when a stack's topic and index are there.
func (c *cluster) has(stack *v1alpha1.AtlasStack) bool {
	c.t.Helper()
	ctx, spec := c.t.Context(), &stack.Spec
	topics, err := topic.ConnectSarama(ctx, topic.Target{Brokers: spec.Kafka.Brokers})
	require.NoError(c.t, err)
	defer func() { require.NoError(c.t, topics.Close()) }()
	events, err := topics.Describe(ctx, spec.Kafka.Topic.Name)
	require.NoError(c.t, err)
	indices, err := template.ConnectElasticsearch(ctx, template.Target{Addresses: spec.Elasticsearch.Addresses})
	require.NoError(c.t, err)
	defer indices.Close()
	items, err := indices.Observe(ctx, spec.Elasticsearch.Index.Alias)
	require.NoError(c.t, err)
	require.Equal(c.t, events != nil, len(items.Indices) > 0)
	return events != nil
}

// gone waits for the end of an object.
func (c *cluster) gone(object client.Object) {
	c.t.Helper()
	c.until(func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(object), object)
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}, func() string { return fmt.Sprint(object) })
}
