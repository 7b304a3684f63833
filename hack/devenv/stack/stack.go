// Package stack installs Atlas on a running cluster as a platform team would: the images, the operator by its Helm chart, and the sample
// AtlasStack pointed at the instance's servers. It waits until the stack is Ready and says how to reach it.
package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/images"
	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
)

const (
	namespace         = "atlas" // of config/samples
	name              = "atlas"
	operatorNamespace = "atlas-system"
	release           = "atlas-operator"
	databaseSecret    = "atlas-postgres"
)

// Options are what Up needs. The cluster runs already.
type Options struct {
	State   *process.State
	Console *process.Console
	Cluster cluster.Cluster
	Info    *cluster.Info
	Servers *servers.Servers
	// Root is the checkout that is installed.
	Root string
}

// Access says how to reach the installed stack from this host.
type Access struct {
	URL           string
	OpsURL        string
	AdminEmail    string
	AdminPassword string
	// Helm is the program that installed the operator.
	Helm string
}

type installer struct {
	Options
	kubectl *kubectl
}

// Up brings the stack to the checkout's state. What is right already is left alone.
func Up(ctx context.Context, o Options) (*Access, error) {
	in := &installer{Options: o, kubectl: &kubectl{program: o.Info.Kubectl, kubeconfig: o.Info.Kubeconfig}}
	var atlas, operator images.Image
	var helm string
	builds, buildCtx := errgroup.WithContext(ctx)
	builds.Go(func() error {
		return o.Console.Step(buildCtx, "Images", func(ctx context.Context, p *process.Progress) error {
			var err error
			if atlas, err = in.image(ctx, p, "atlas"); err != nil {
				return err
			}
			operator, err = in.image(ctx, p, "operator")
			return err
		})
	})
	builds.Go(func() error {
		return o.Console.Step(buildCtx, "Helm", func(ctx context.Context, p *process.Progress) (err error) {
			helm, err = buildHelm(ctx, p, o.Root)
			return err
		})
	})
	if err := builds.Wait(); err != nil {
		return nil, err
	}
	steps := []struct {
		name string
		run  func(context.Context, *process.Progress) error
	}{
		{"Images in the cluster", func(ctx context.Context, _ *process.Progress) error {
			return o.Cluster.LoadImages(ctx, atlas, operator)
		}},
		{"Operator", func(ctx context.Context, p *process.Progress) error {
			return in.installOperator(ctx, p, helm, operator)
		}},
		{"AtlasStack", func(ctx context.Context, p *process.Progress) error {
			if err := in.applyStack(ctx, atlas); err != nil {
				return err
			}
			return in.awaitReady(ctx, p)
		}},
	}
	for _, step := range steps {
		if err := o.Console.Step(ctx, step.name, step.run); err != nil {
			return nil, err
		}
	}
	access, err := in.access(ctx)
	if err != nil {
		return nil, err
	}
	access.Helm = helm
	return access, nil
}

func (in *installer) image(ctx context.Context, p *process.Progress, target string) (images.Image, error) {
	p.Set("building %s", target)
	image, err := images.Build(ctx, images.Target{Name: target}, images.Options{Root: in.Root, Cache: process.Cache()})
	if err != nil {
		return image, fmt.Errorf("build the image of %s: %w", target, err)
	}
	return image, nil
}

// access reads the admin's login and makes the API reachable from the host.
func (in *installer) access(ctx context.Context) (*Access, error) {
	var service struct {
		Spec struct {
			ClusterIP string `json:"clusterIP"`
			Ports     []struct {
				Name string `json:"name"`
				Port int    `json:"port"`
			} `json:"ports"`
		} `json:"spec"`
	}
	if err := in.kubectl.get(ctx, &service, "--namespace", namespace, "service", name+"-api"); err != nil {
		return nil, err
	}
	access := &Access{}
	for _, port := range service.Spec.Ports {
		address, err := in.Cluster.Forward(ctx, "atlas-"+port.Name, fmt.Sprintf("%s:%d", service.Spec.ClusterIP, port.Port))
		if err != nil {
			return nil, fmt.Errorf("make the Service's port %s reachable: %w", port.Name, err)
		}
		switch port.Name {
		case "http":
			access.URL = "http://" + address
		case "ops":
			access.OpsURL = "http://" + address
		}
	}
	if access.URL == "" || access.OpsURL == "" {
		return nil, fmt.Errorf("the Service %s-api has no port named http or ops", name)
	}
	var secret struct {
		Data map[string][]byte `json:"data"`
	}
	if err := in.kubectl.get(ctx, &secret, "--namespace", namespace, "secret", name+"-admin"); err != nil {
		return nil, err
	}
	access.AdminEmail, access.AdminPassword = string(secret.Data["email"]), string(secret.Data["password"])
	return access, nil
}

// Env returns what a user needs, as shell variables.
func (a *Access) Env() []process.Var {
	return []process.Var{
		{Name: "ATLAS_URL", Value: a.URL},
		{Name: "ATLAS_OPS_URL", Value: a.OpsURL},
		{Name: "ATLAS_ADMIN_EMAIL", Value: a.AdminEmail},
		{Name: "ATLAS_ADMIN_PASSWORD", Value: a.AdminPassword},
	}
}

// buildHelm builds Helm from its Go module, once.
func buildHelm(ctx context.Context, p *process.Progress, root string) (string, error) {
	dir := filepath.Join(root, "hack", "tools", "helm")
	key, err := hashFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("read Helm's pinned version: %w", err)
	}
	cache, err := process.CacheDir("tools")
	if err != nil {
		return "", err
	}
	program := filepath.Join(cache, "helm-"+key)
	if _, err := os.Stat(program); err == nil {
		p.Outcome("ready (cached)")
		return program, nil
	}
	p.Set("building; the first time takes two minutes")
	unfinished := fmt.Sprintf("%s.%d", program, os.Getpid())
	defer os.Remove(unfinished)
	if err := runQuietly(ctx, dir, nil, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", unfinished, "helm.sh/helm/v4/cmd/helm"); err != nil {
		return "", err
	}
	if err := os.Rename(unfinished, program); err != nil {
		return "", fmt.Errorf("keep the built Helm: %w", err)
	}
	return program, nil
}
