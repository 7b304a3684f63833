package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"
)

// players is how many Jobs and Deployments are played at the same time.
const players = 16

// play stands in for the controllers of Jobs and Deployments: Jobs succeed and pods become ready at once.
func (w *world) play(ctx context.Context) error {
	for _, list := range []ctrlclient.ObjectList{&batchv1.JobList{}, &appsv1.DeploymentList{}} {
		events, err := w.client.Watch(ctx, list)
		if err != nil {
			return fmt.Errorf("watch what the operator makes: %w", err)
		}
		go w.playEvents(ctx, events)
	}
	return nil
}

func (w *world) playEvents(ctx context.Context, events watch.Interface) {
	defer events.Stop()
	var group errgroup.Group
	group.SetLimit(players)
	for {
		select {
		case <-ctx.Done():
			_ = group.Wait()
			return
		case event, ok := <-events.ResultChan():
			if !ok {
				return
			}
			object, isObject := event.Object.(ctrlclient.Object)
			if !isObject || event.Type == watch.Deleted {
				continue
			}
			group.Go(func() error {
				before, ok := object.DeepCopyObject().(ctrlclient.Object)
				if ok && succeed(object) {
					// What fails is changed again by the next event.
					_ = w.client.Status().Patch(ctx, object, ctrlclient.MergeFrom(before))
				}
				return nil
			})
		}
	}
}

// succeed says in an object's status that it has succeeded, unless it says so already.
func succeed(object ctrlclient.Object) bool {
	now := metav1.Now()
	switch o := object.(type) {
	case *batchv1.Job:
		if len(o.Status.Conditions) > 0 {
			return false
		}
		o.Status.StartTime, o.Status.CompletionTime, o.Status.Succeeded = &now, &now, 1
		for _, kind := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete} {
			o.Status.Conditions = append(o.Status.Conditions, batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now, LastProbeTime: now, Reason: "Played"})
		}
		return true
	case *appsv1.Deployment:
		if o.Status.ObservedGeneration == o.Generation {
			return false
		}
		n := *o.Spec.Replicas
		o.Status = appsv1.DeploymentStatus{ObservedGeneration: o.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
		return true
	}
	return false
}

// elastic stands in for Elasticsearch's administration: templates and indices with their aliases and settings.
type elastic struct {
	mu        sync.Mutex
	templates map[string]json.RawMessage
	indices   map[string]index
}

type index struct {
	Settings map[string]any `json:"settings"`
	Mappings map[string]any `json:"mappings"`
	Aliases  map[string]any `json:"aliases"`
}

func newElastic() *elastic {
	return &elastic{templates: map[string]json.RawMessage{}, indices: map[string]index{}}
}

func (e *elastic) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out.Header().Set("X-Elastic-Product", "Elasticsearch")
	out.Header().Set("Content-Type", "application/json")
	name := path.Base(r.URL.Path)
	var answer any = map[string]any{"acknowledged": true}
	switch {
	case r.URL.Path == "/":
		answer = map[string]any{"cluster_uuid": "stand-in", "version": map[string]any{"number": "8.19.0"}}
	case r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/_index_template/"):
		var body json.RawMessage
		if json.NewDecoder(r.Body).Decode(&body) == nil {
			e.templates[name] = body
		}
	case strings.HasPrefix(r.URL.Path, "/_index_template/"):
		list := []any{}
		if template, ok := e.templates[name]; ok {
			list = append(list, map[string]any{"name": name, "index_template": template})
		}
		answer = map[string]any{"index_templates": list}
	case r.Method == http.MethodPut:
		var made index
		if json.NewDecoder(r.Body).Decode(&made) == nil {
			e.indices[name] = made
		}
	default:
		found := e.behind(name)
		if len(found) == 0 {
			out.WriteHeader(http.StatusNotFound)
		}
		answer = found
	}
	_ = json.NewEncoder(out).Encode(answer)
}

// behind are the indices of a name, an alias or a pattern.
func (e *elastic) behind(name string) map[string]index {
	found := map[string]index{}
	for index, content := range e.indices {
		_, alias := content.Aliases[name]
		if matches, _ := path.Match(name, index); alias || matches {
			found[index] = content
		}
	}
	return found
}
