package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"text/template"

	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// metricsServer is not among the node's programs: only who asks for it builds and runs it.
const metricsServer = "metrics-server"

func metricsCertificate() certificate {
	const service = metricsServer + ".kube-system.svc"
	return certificate{file: metricsServer, commonName: metricsServer, dns: []string{service, service + ".cluster.local"}}
}

// metricsManifest is what differs between two installations.
type metricsManifest struct {
	Image string
	// CA, Certificate and Key are PEM in base64: those of the server's own address.
	CA, Certificate, Key string
	// TrustKubelet is for a cluster whose kubelets sign their certificates themselves.
	TrustKubelet bool
}

// installMetrics builds metrics-server, once, and runs it in a cluster. The folder holds its certificate and the authority's.
func installMetrics(ctx context.Context, c Cluster, info *Info, state *process.State, console *process.Console, pki string, trustKubelet bool) error {
	b, err := newBuilderOf(ctx, []string{metricsServer + "/go.mod", metricsServer + "/go.sum"}, state.Checkout, process.Cache(), console)
	if err != nil {
		return err
	}
	if err := b.build(ctx, []program{{metricsServer, metricsServer, "sigs.k8s.io/metrics-server/cmd/metrics-server"}}); err != nil {
		return err
	}
	return console.Step(ctx, metricsServer, func(ctx context.Context, p *process.Progress) error {
		image, err := images.Pack(metricsServer, b.path(metricsServer), b.dir)
		if err != nil {
			return err
		}
		if err := c.LoadImages(ctx, image); err != nil {
			return err
		}
		manifest, err := renderMetrics(image.Ref, pki, trustKubelet)
		if err != nil {
			return err
		}
		if _, err := kubectl(ctx, info, manifest, "apply", "--server-side", "-f", "-"); err != nil {
			return err
		}
		p.Set("waiting for the first figures")
		_, err = kubectl(ctx, info, nil, "wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=120s")
		return err
	})
}

func renderMetrics(image, pki string, trustKubelet bool) ([]byte, error) {
	m := metricsManifest{Image: image, TrustKubelet: trustKubelet}
	for file, field := range map[string]*string{"ca.crt": &m.CA, metricsServer + ".crt": &m.Certificate, metricsServer + ".key": &m.Key} {
		content, err := os.ReadFile(filepath.Join(pki, file))
		if err != nil {
			return nil, err
		}
		*field = base64.StdEncoding.EncodeToString(content)
	}
	t, err := template.ParseFS(templates, "templates/"+metricsServer+".yaml")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, m)
	return out.Bytes(), err
}
