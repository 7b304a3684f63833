package e2e

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/internal/testenv"
)

// plugin is kubectl-atlas, built from the checkout.
type plugin struct{ program, kubeconfig string }

func buildPlugin(t *testing.T) plugin {
	t.Helper()
	p := plugin{program: filepath.Join(t.TempDir(), "kubectl-atlas"), kubeconfig: testenv.Require(t, testenv.Kubeconfig)}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "../../cmd/kubectl-atlas").CombinedOutput()
	require.NoError(t, err, string(out))
	return p
}

func (p plugin) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, p.program, append([]string{"--kubeconfig", p.kubeconfig, "--namespace", stackKey.Namespace}, args...)...)
}

func (p plugin) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := p.command(t.Context(), args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		require.NoError(t, err, "%s: %s", strings.Join(args, " "), exit.Stderr)
	}
	require.NoError(t, err, strings.Join(args, " "))
	return string(out)
}

// TestPluginLooksAfterAStack uses kubectl-atlas on the node as an operator of the platform does.
func TestPluginLooksAfterAStack(t *testing.T) {
	t.Parallel()
	e := setup(t)
	p := buildPlugin(t)
	t.Run("status", func(t *testing.T) {
		status := p.run(t, "status", stackKey.Name)
		for _, want := range append([]string{stackKey.Name, "Ready", "messages behind"}, roles...) {
			require.Contains(t, status, want)
		}
	})
	t.Run("logs", func(t *testing.T) {
		logs := p.run(t, "logs", stackKey.Name, "--role", "api", "--tail", "50")
		require.Contains(t, logs, stackKey.Name+"-api-")
		require.NotContains(t, logs, stackKey.Name+"-worker-")
	})
	t.Run("admin", func(t *testing.T) { p.createAdmin(t, e) })
	t.Run("open", p.open)
	t.Run("support-bundle", func(t *testing.T) { p.bundle(t, e) })
}

func (p plugin) createAdmin(t *testing.T, e *env) {
	email := "admin-" + uuid.NewString() + "@example.com"
	out := p.run(t, "admin", "create", email, "--stack", stackKey.Name, "--generate-password")
	password := regexp.MustCompile(`(?m)^password: (\S+)$`).FindStringSubmatch(out)
	require.Len(t, password, 2, out)
	users, err := e.login(t, email, password[1]).ListUsersWithResponse(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, users.StatusCode(), "admins alone may: %s", users.Body)
}

func (p plugin) open(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := p.command(ctx, "open", stackKey.Name, "--no-browser")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	lines := bufio.NewScanner(out)
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	for lines.Scan() && !address.MatchString(lines.Text()) {
	}
	require.NoError(t, lines.Err())
	answer, err := http.Get(address.FindString(lines.Text()) + "/openapi.json")
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

// bundle looks for every value of every Secret of the namespace in every file of the archive.
func (p plugin) bundle(t *testing.T, e *env) {
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	p.run(t, "support-bundle", stackKey.Name, "--file", file)
	secrets := &corev1.SecretList{}
	require.NoError(t, e.cluster.List(t.Context(), secrets, ctrlclient.InNamespace(stackKey.Namespace)))
	require.NotEmpty(t, secrets.Items)
	files := untar(t, file)
	for _, want := range []string{"status.yaml", "AtlasStack/" + stackKey.Name + ".yaml", "Deployment/" + stackKey.Name + "-api.yaml"} {
		require.Contains(t, files, "atlas-"+stackKey.Namespace+"/"+want)
	}
	for name, content := range files {
		for _, secret := range secrets.Items {
			for key, value := range secret.Data {
				if key == "email" || key == "signing-key-made" { // a name and a time
					continue
				}
				found := strings.Contains(content, string(value)) || strings.Contains(content, base64.StdEncoding.EncodeToString(value))
				require.False(t, found, "%s has %s of Secret %s", name, key, secret.Name)
			}
		}
	}
}

func untar(t *testing.T, file string) map[string]string {
	t.Helper()
	packed, err := os.Open(file)
	require.NoError(t, err)
	defer packed.Close()
	zipped, err := gzip.NewReader(packed)
	require.NoError(t, err)
	files := map[string]string{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		files[header.Name] = string(content)
	}
}
