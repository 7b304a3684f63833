// Package crdtest knows where the definitions of kinds are that other projects bring, as those projects publish them. Go's module cache holds them, at the versions that
// hack/tools/crds/go.mod asks for.
package crdtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/internal/testenv"
)

// The kinds. All of them are named alike in a cluster by one project only.
const (
	HTTPRoute             = "HTTPRoute"
	ServiceMonitor        = "ServiceMonitor"
	PodMonitor            = "PodMonitor"
	ScaledObject          = "ScaledObject"
	TriggerAuthentication = "TriggerAuthentication"
)

// files are where a kind's definition is: in which module, and in which of its files.
var files = map[string]struct{ module, file string }{
	HTTPRoute:             {"sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"},
	ServiceMonitor:        {"github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"},
	PodMonitor:            {"github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"},
	ScaledObject:          {"github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"},
	TriggerAuthentication: {"github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_triggerauthentications.yaml"},
}

// Read returns the definition of a kind. Its module is downloaded where it isn't in the cache.
func Read(ctx context.Context, kind string) (*apiextensionsv1.CustomResourceDefinition, error) {
	where, ok := files[kind]
	if !ok {
		return nil, fmt.Errorf("where the definition of %s is is not known", kind)
	}
	folder, err := download(ctx, where.module)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(where.file)))
	if err != nil {
		return nil, fmt.Errorf("read the definition of %s: %w", kind, err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(content, crd); err != nil {
		return nil, fmt.Errorf("decode the definition of %s: %w", kind, err)
	}
	return crd, nil
}

// download returns the folder of a module in the cache.
func download(ctx context.Context, module string) (string, error) {
	folder, err := testenv.Tools("crds")
	if err != nil {
		return "", err
	}
	var output, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module) //nolint:gosec // one of the above
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, &output, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("`go mod download %s` in hack/tools/crds failed: %w: %s%s", module, err, problems.Bytes(), output.Bytes())
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(output.Bytes(), &got); err != nil {
		return "", fmt.Errorf("decode what go mod download says: %w", err)
	}
	return got.Dir, nil
}
