package atlasstack

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/atlas-platform/atlas/controllers/workloads"
)

// explainImage says why the image of a container that waits can't be had, "" when it waits for something else. The kubelet tries and pauses in turn, under another
// name and with another message each, which the condition does not follow.
func explainImage(status *corev1.ContainerStatus) string {
	w := status.State.Waiting
	if !slices.Contains([]string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}, w.Reason) {
		return ""
	}
	detail := w.Message
	if _, cause, ok := strings.Cut(detail, "ErrImagePull: "); ok {
		detail = cause
	} else if strings.HasPrefix(detail, "Back-off pulling image") {
		detail = ""
	}
	if strings.HasPrefix(detail, "rpc error: ") {
		if _, cause, ok := strings.Cut(detail, " desc = "); ok {
			detail = cause
		}
	}
	text := strings.ReplaceAll("image "+status.Image+" can't be pulled", "  ", " ")
	if detail != "" {
		text += " (" + detail + ")"
	}
	field := "spec.image"
	if status.Name != workloads.ContainerName {
		field = "the image of the container " + status.Name
	}
	return text + ": correct " + field + ", or spec.imagePullSecrets"
}
