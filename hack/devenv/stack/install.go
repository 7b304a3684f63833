package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
)

const (
	sampleFile   = "config/samples/platform_v1alpha1_atlasstack.yaml"
	readyTimeout = 5 * time.Minute
	pollInterval = 500 * time.Millisecond

	operatorNamespaceManifest = `
apiVersion: v1
kind: Namespace
metadata: {name: ` + operatorNamespace + `, labels: {pod-security.kubernetes.io/enforce: restricted}}
`
)

func (in *installer) installOperator(ctx context.Context, p *process.Progress, helm string, image images.Image) error {
	repository, tag, _ := strings.Cut(image.Ref, ":")
	p.Set("installing the chart")
	if _, err := in.kubectl.run(ctx, strings.NewReader(operatorNamespaceManifest), "apply", "--server-side", "--filename", "-"); err != nil {
		return err
	}
	env := append(os.Environ(), "KUBECONFIG="+in.Info.Kubeconfig)
	err := runQuietly(ctx, in.Root, env, helm, "upgrade", "--install", release, filepath.Join("charts", "atlas-operator"),
		"--namespace", operatorNamespace, "--wait", "--timeout", "3m",
		"--set-string", "image.repository="+repository, "--set-string", "image.tag="+tag)
	if err != nil {
		return errors.Join(err, in.podsTrouble(ctx, operatorNamespace))
	}
	return nil
}

// podsTrouble describes the pods of a namespace that are not running, for the error of a step that waited for them in vain.
func (in *installer) podsTrouble(ctx context.Context, namespace string) error {
	out, err := in.kubectl.run(context.WithoutCancel(ctx), nil, "--namespace", namespace, "get", "pods,events", "--output", "wide")
	if err != nil {
		return err
	}
	return fmt.Errorf("in the namespace %s:\n%s", namespace, out)
}

// applyStack applies the sample with this instance's image and servers. The database's URL goes through standard input: arguments can be seen
// by every user of the machine.
func (in *installer) applyStack(ctx context.Context, image images.Image) error {
	content, err := os.ReadFile(filepath.Join(in.Root, sampleFile))
	if err != nil {
		return fmt.Errorf("read the sample: %w", err)
	}
	documents, err := splitDocuments(content)
	if err != nil {
		return fmt.Errorf("read %s: %w", sampleFile, err)
	}
	var manifest bytes.Buffer
	write := func(object any) error {
		out, err := yaml.Marshal(object)
		if err != nil {
			return fmt.Errorf("write a manifest: %w", err)
		}
		manifest.WriteString("---\n")
		manifest.Write(out)
		return nil
	}
	secret := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": databaseSecret, "namespace": namespace},
		"stringData": map[string]any{"url": in.Servers.NodeDatabaseURL},
	}
	for _, document := range documents {
		if document["kind"] == "AtlasStack" {
			if err := write(secret); err != nil {
				return err
			}
			spec := document["spec"].(map[string]any)
			spec["image"] = image.Ref
			spec["kafka"].(map[string]any)["brokers"] = strings.Split(in.Servers.NodeKafkaBrokers, ",")
			spec["elasticsearch"].(map[string]any)["addresses"] = strings.Split(in.Servers.NodeElasticsearchURL, ",")
		}
		if err := write(document); err != nil {
			return err
		}
	}
	_, err = in.kubectl.run(ctx, &manifest, "apply", "--server-side", "--field-manager", "devenv", "--filename", "-")
	return err
}

func splitDocuments(content []byte) ([]map[string]any, error) {
	reader := utilyaml.NewYAMLReader(newBufferedReader(content))
	var documents []map[string]any
	for {
		part, err := reader.Read()
		if len(bytes.TrimSpace(part)) > 0 {
			var document map[string]any
			if err := yaml.Unmarshal(part, &document); err != nil {
				return nil, err
			}
			if document != nil {
				documents = append(documents, document)
			}
		}
		if err != nil {
			return documents, nil //nolint:nilerr // io.EOF: a reader over bytes has no other error
		}
	}
}

type status struct {
	Metadata struct {
		Generation int64 `json:"generation"`
	} `json:"metadata"`
	Status struct {
		Conditions []struct {
			Type               string `json:"type"`
			Status             string `json:"status"`
			Reason             string `json:"reason"`
			Message            string `json:"message"`
			ObservedGeneration int64  `json:"observedGeneration"`
		} `json:"conditions"`
	} `json:"status"`
}

// awaitReady waits until the stack is Ready for its present generation, and shows meanwhile what it says about itself.
func (in *installer) awaitReady(ctx context.Context, p *process.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for last := ""; ; {
		var s status
		if err := in.kubectl.get(ctx, &s, "--namespace", namespace, "atlasstack", name); err != nil && ctx.Err() == nil {
			return err
		}
		for _, c := range s.Status.Conditions {
			if c.Type != "Ready" || c.ObservedGeneration != s.Metadata.Generation {
				continue
			}
			if c.Status == "True" {
				return nil
			}
			last = c.Reason + ": " + c.Message
			p.Set("%s", last)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the AtlasStack is not Ready within %s; it says: %s", readyTimeout, last), in.podsTrouble(ctx, namespace))
		case <-ticker.C:
		}
	}
}
