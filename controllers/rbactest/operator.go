package rbactest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// Operator is the config of a user with the operator's generated role and nothing else, for the tests of a package of controllers, whose requests r remembers.
func (r *Recorder) Operator(env *envtest.Environment, scheme *runtime.Scheme) (*rest.Config, error) {
	admin, err := client.New(env.Config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make the administrator's client: %w", err)
	}
	user, err := Operator(context.Background(), env, admin, filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	if err != nil {
		return nil, err
	}
	config := rest.CopyConfig(user.Config())
	config.QPS = -1
	config.Wrap(r.Wrap)
	return config, nil
}

// Operator adds a user with the role of a manifest and nothing else, so that a missing permission is noticed.
func Operator(ctx context.Context, env *envtest.Environment, c client.Client, manifest string) (*envtest.AuthenticatedUser, error) {
	const name = "atlas-operator"
	user, err := env.AddUser(envtest.User{Name: name}, nil)
	if err != nil {
		return nil, fmt.Errorf("add the operator's user: %w", err)
	}
	content, err := os.ReadFile(manifest)
	if err != nil {
		return nil, fmt.Errorf("read the operator's role: %w", err)
	}
	role := &rbacv1.ClusterRole{}
	if err := yaml.UnmarshalStrict(content, role); err != nil {
		return nil, fmt.Errorf("read the operator's role: %w", err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}
	if err := errors.Join(c.Create(ctx, role), c.Create(ctx, binding)); err != nil {
		return nil, fmt.Errorf("bind the operator's role: %w", err)
	}
	return user, nil
}
