package atlasstack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/controllers/workloads"
)

// maxPods bounds how many pods are read to explain a failure.
const maxPods = 50

// explainPods says why the newest pod that has a reason to give does not run; "" when there is none. Pods are read
// live and only when something is wrong, so that the operator holds no pods in memory.
func (r *Reconciler) explainPods(ctx context.Context, p *pass, labels client.MatchingLabels) (string, error) {
	pods := &corev1.PodList{}
	err := r.Reader.List(ctx, pods, client.InNamespace(p.stack.Namespace), labels,
		client.MatchingLabels{workloads.StackLabel: p.stack.Name}, client.Limit(maxPods))
	if err != nil {
		return "", fmt.Errorf("list pods: %w", err)
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	for i := range pods.Items {
		if !pods.Items[i].DeletionTimestamp.IsZero() {
			continue // it was told to end; how it does is no reason
		}
		if why := explainPod(&pods.Items[i]); why != "" {
			return p.redact(fmt.Sprintf("pod %s: %s", pods.Items[i].Name, why)), nil
		}
	}
	return "", nil
}

// explainPod says why a pod does not run, "" when nothing is wrong with it yet.
func explainPod(pod *corev1.Pod) string {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if t := status.State.Terminated; t != nil && t.ExitCode != 0 {
			return explainExit(t)
		}
		if status.State.Running != nil && status.Started != nil && *status.Started && !status.Ready {
			return "it runs, but its readiness probe fails: its log says why"
		}
		w := status.State.Waiting
		if w == nil || w.Reason == "ContainerCreating" || w.Reason == "PodInitializing" {
			continue
		}
		if why := explainImage(&status); why != "" {
			return why
		}
		if last := status.LastTerminationState.Terminated; last != nil {
			return w.Reason + ": " + explainExit(last)
		}
		return strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason + ": " + c.Message
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		return strings.TrimSuffix(pod.Status.Reason+": "+pod.Status.Message, ": ")
	}
	return ""
}

func explainExit(t *corev1.ContainerStateTerminated) string {
	if line := lastLine(t.Message); line != "" {
		return line
	}
	return fmt.Sprintf("%s, exit code %d", t.Reason, t.ExitCode)
}

// lastLine is the last line of a log; of a structured one, its message and error.
func lastLine(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	var record struct {
		Msg   string `json:"msg"`
		Error string `json:"error"`
		Err   string `json:"err"`
	}
	if json.Unmarshal([]byte(line), &record) != nil || record.Msg == "" {
		return line
	}
	if record.Error == "" {
		record.Error = record.Err
	}
	return strings.TrimSuffix(record.Msg+": "+record.Error, ": ")
}

// redact removes the contents of the stack's Secrets, should a program have printed one: of those that are there, and of those that the present pods were made with.
func (p *pass) redact(text string) string {
	hide := secrets(p.inputs)
	for _, from := range p.memory.made {
		hide = append(hide, secrets(from.inputs)...)
	}
	slices.SortFunc(hide, func(a, b []byte) int { return len(b) - len(a) }) // one may be a part of another
	for _, secret := range hide {
		// A very short value is no secret, and would hide half of every message.
		if len(secret) >= 4 {
			text = strings.ReplaceAll(text, string(secret), "[redacted]")
		}
	}
	return text
}

func secrets(inputs workloads.Inputs) (values [][]byte) {
	for input, value := range inputs {
		if !input.Public() {
			values = append(values, value)
		}
	}
	if u, err := url.Parse(string(inputs[workloads.DatabaseURL])); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			values = append(values, []byte(password), []byte(url.QueryEscape(password)))
		}
	}
	return values
}
