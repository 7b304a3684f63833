package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/controllers/rbactest"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// electionRules are the rules of the chart's Role for the leader election, the only rights besides those of the controllers.
func electionRules(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("charts", "atlas-operator", "templates", "rbac.yaml"))
	require.NoError(t, err)
	_, rest, found := bytes.Cut(content, []byte("-leader-election\n"))
	require.True(t, found)
	_, rest, found = bytes.Cut(rest, []byte("\nrules:\n"))
	require.True(t, found)
	rules, _, found := bytes.Cut(rest, []byte("\n---\n"))
	require.True(t, found)
	var out []rbacv1.PolicyRule
	require.NoError(t, yaml.UnmarshalStrict(rules, &out))
	return out
}

// TestTheOperatorStartsAndEndsWithItsRights runs the whole of it as a user who has the generated role, and the chart's Role for the election in its own namespace. What the
// controllers do with their rights their own tests compare.
func TestTheOperatorStartsAndEndsWithItsRights(t *testing.T) {
	testenv.Require(t, testenv.EnvtestAssets)
	const namespace, election = "atlas-system", "election"
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("config", "crd")}, ErrorIfCRDPathMissing: true}
	config, err := env.Start()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, env.Stop()) })
	admin, err := client.New(config, client.Options{})
	require.NoError(t, err)
	user, err := rbactest.Operator(t.Context(), env, admin, filepath.Join("config", "rbac", "role.yaml"))
	require.NoError(t, err)
	rules := electionRules(t)
	meta := metav1.ObjectMeta{Namespace: namespace, Name: election}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&rbacv1.Role{ObjectMeta: meta, Rules: rules},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: election},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "atlas-operator"}},
		},
	} {
		require.NoError(t, admin.Create(t.Context(), object))
	}

	var rights rbactest.Recorder
	asUser := user.Config()
	asUser.Wrap(rights.Wrap)
	mgr, err := manager(options{metricsAddress: "127.0.0.1:0", probeAddress: "127.0.0.1:0", leaderElect: true, electionNamespace: namespace}, asUser)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	<-mgr.Elected()
	lease := &coordinationv1.Lease{}
	renewed := func(ctx context.Context) (bool, error) {
		err := admin.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "operator.platform.atlas.dev"}, lease)
		return err == nil && lease.Spec.RenewTime.After(lease.Spec.AcquireTime.Time), client.IgnoreNotFound(err)
	}
	told := func(ctx context.Context) (bool, error) {
		events := &corev1.EventList{}
		err := admin.List(ctx, events, client.InNamespace(namespace))
		return len(events.Items) > 0, err
	}
	for _, met := range []wait.ConditionWithContextFunc{renewed, told} {
		require.NoError(t, wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, met))
	}
	stop()
	require.NoError(t, <-done)
	require.NoError(t, client.IgnoreNotFound(admin.Get(t.Context(), client.ObjectKeyFromObject(lease), lease)))
	require.Empty(t, *lease.Spec.HolderIdentity, "the next one need not wait")
	// An event is patched when it repeats itself, which is up to the library.
	require.NoError(t, rights.CheckRules(rules, "/events patch"))
}
