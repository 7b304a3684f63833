package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/atlas-platform/atlas/hack/devenv/cluster"
	"github.com/atlas-platform/atlas/hack/devenv/process"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
)

// vars are the variables of the running instance: the servers', and the cluster's and the stack's where they are up.
func (e *environment) vars() ([]process.Var, error) {
	state, err := e.state()
	if err != nil {
		return nil, err
	}
	s, err := servers.Load(state)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("instance %q isn't up; start it with: devenv up", e.instance)
	}
	if err != nil {
		return nil, err
	}
	saved, err := loadVars(state)
	vars := append([]process.Var{{Name: "DEVENV_INSTANCE", Value: state.Instance}}, s.Env()...)
	return append(vars, saved...), err
}

// clusterVars names the assets of envtest too. A node has been built from them; kind brings its own, so for kind they are built here.
func clusterVars(ctx context.Context, info *cluster.Info) ([]process.Var, error) {
	assets, err := cluster.BuildEnvtest(ctx)
	if err != nil {
		return nil, err
	}
	return []process.Var{{Name: "KUBECONFIG", Value: info.Kubeconfig}, {Name: "KUBEBUILDER_ASSETS", Value: assets}}, nil
}

// varsFile keeps what only `up` knows. It holds the admin's password, so it is readable by its owner only.
func varsFile(state *process.State) string { return state.Path("vars.json") }

// saveVars keeps what was saved before under other names: a cluster that comes up again still has its stack.
func saveVars(state *process.State, vars []process.Var) error {
	saved, err := loadVars(state)
	if err != nil {
		return err
	}
	for _, v := range vars {
		saved = slices.DeleteFunc(saved, func(old process.Var) bool { return old.Name == v.Name })
	}
	content, err := json.Marshal(append(saved, vars...))
	if err != nil {
		return fmt.Errorf("write the variables: %w", err)
	}
	return process.WriteFile(varsFile(state), content, 0o600)
}

func loadVars(state *process.State) ([]process.Var, error) {
	content, err := os.ReadFile(varsFile(state))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the variables: %w", err)
	}
	var vars []process.Var
	if err := json.Unmarshal(content, &vars); err != nil {
		return nil, fmt.Errorf("read the variables: %w", err)
	}
	return vars, nil
}

// envFile is where a stack's user finds its addresses and logins.
func envFile(state *process.State) string {
	if state.Instance == process.DefaultInstance {
		return filepath.Join(state.Checkout, ".run", "env")
	}
	return filepath.Join(state.Checkout, ".run", state.Instance+".env")
}

func relative(state *process.State, path string) string {
	if short, err := filepath.Rel(state.Checkout, path); err == nil {
		return short
	}
	return path
}
