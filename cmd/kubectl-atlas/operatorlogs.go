package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The label that the operator's chart gives to its pods.
const (
	operatorLabel = "app.kubernetes.io/name"
	operatorName  = "atlas-operator"
)

// operator takes the operator's logs, as far as they speak of the stack's namespace: others may be somebody else's, and their secrets are not known here.
func (b *collector) operator(ctx context.Context, namespace string) {
	const what = "the operator's logs"
	pods := &corev1.PodList{}
	if err := b.List(ctx, pods, client.InNamespace(namespace), client.MatchingLabels{operatorLabel: operatorName}); err != nil {
		b.miss(what+" (name its namespace by --operator-namespace, or ask somebody who may read them)", err)
		return
	}
	if len(pods.Items) == 0 {
		b.miss(what, errors.New("there is no pod with the label "+operatorLabel+"="+operatorName+": is the operator installed?"))
	}
	for i := range pods.Items {
		b.logs(ctx, &pods.Items[i], "operator", b.ours)
	}
}

// ours are the lines in which everything that names a namespace names the stack's. Lines that name none, of a start or of a panic, are everybody's.
func (b *collector) ours(log []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(log) {
		if names, told := namespacesOf(line); told && b.areOurs(names) {
			out.Write(line)
		}
	}
	return out.Bytes()
}

// areOurs tells of all the namespaces that a line names whether they are the stack's. A line of the stack may also name Services elsewhere that the namespace's stacks or Secrets name.
func (b *collector) areOurs(names []string) bool {
	own := slices.Contains(names, b.stack.Namespace)
	for _, name := range names {
		service, isService := strings.CutPrefix(name, servicePrefix)
		if service != b.stack.Namespace && (!isService || !own || !slices.Contains(b.uses, service)) {
			return false
		}
	}
	return true
}
