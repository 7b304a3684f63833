package atlasjob

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/atlasschedule"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// TestDocumentedCommandsRun runs what docs/jobs.md and the README tell people to type about AtlasJobs and AtlasSchedules, with kubectl and both controllers.
func TestDocumentedCommandsRun(t *testing.T) {
	t.Parallel()
	jobs, readme := document(t, "docs", "jobs.md"), document(t, "README.md")
	script := blocks(section(t, jobs, "AtlasJob"), "sh") + blocks(section(t, jobs, "AtlasSchedule"), "sh") + blocks(section(t, readme, "Run a job"), "sh")
	w := newWorld(t)
	w.work()
	w.controllers()
	out := w.bash(strings.ReplaceAll(script, "--namespace atlas", "--namespace "+w.namespace))
	require.Regexp(t, `(?m)^NAME +STACK +TYPE +PHASE +PROGRESS +AGE$`, out)
	require.Regexp(t, `(?m)^reindex-engines +atlas +reindex +Succeeded +3/10 +\d+s$`, out)
	require.Regexp(t, `(?m)^[0-9a-f-]{36} done=3$`, out)
	require.Regexp(t, `(?m)^\d+s +Normal +Succeeded +AtlasJob/reindex-engines +The job succeeded.$`, out)
	require.Regexp(t, `(?m)^NAME +SCHEDULE +TIME ZONE +SUSPEND +READY +ACTIVE +LAST +NEXT +AGE$`, out)
	require.Regexp(t, `(?m)^reindex-nightly +30 3 \* \* \* +Europe/Vienna +false +True +`, out)
}

// TestDocumentedManifestsAreValid has Kubernetes take the manifests that docs/jobs.md prints and config/samples has, and refuse a change of what they do.
func TestDocumentedManifestsAreValid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	manifests := blocks(section(t, document(t, "docs", "jobs.md"), "AtlasJob"), "yaml")
	for _, name := range []string{"atlasjob", "atlasschedule"} {
		manifests += "\n---\n" + document(t, "config", "samples", "platform_v1alpha1_"+name+".yaml")
	}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	types := map[string]bool{}
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		object.SetNamespace(b.namespace)
		require.NoError(t, client.WithFieldValidation(b.client, "Strict").Create(t.Context(), object), object.GetName())
		if kind, found, _ := unstructured.NestedString(object.Object, "spec", "type"); found {
			types[kind] = true
			field, value := "collectionID", any("01890a5d-ac96-774b-bcce-b302099a8058")
			switch kind {
			case "auditVerify":
				field, value = "partition", int64(1)
			case "consistencyCheck":
				field, value = "only", "index"
			}
			require.NoError(t, unstructured.SetNestedField(object.Object, value, "spec", kind, field))
			require.ErrorContains(t, b.client.Update(t.Context(), object), "spec can't be changed but for suspend and ttlSecondsAfterFinished", kind)
		}
	}
	crd := document(t, "config", "crd", "platform.atlas.dev_atlasjobs.yaml")
	_, enum, found := strings.Cut(crd[strings.Index(crd, "type is what the job does"):], "enum:\n")
	require.True(t, found)
	for _, kind := range regexp.MustCompile(`(?m)^ +- (\w+)$`).FindAllStringSubmatch(enum[:strings.Index(enum, "type: string")], -1) {
		require.True(t, types[kind[1]], "docs/jobs.md has no AtlasJob of type %s", kind[1])
	}
}

func document(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	require.NoError(t, err)
	return string(content)
}

// section is the part of a document below a heading.
func section(t *testing.T, document, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(document, "\n## "+heading+"\n")
	require.True(t, found, heading)
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// blocks joins a text's fenced blocks of a language.
func blocks(text, language string) string {
	var out strings.Builder
	for _, block := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		out.WriteString(block[1])
	}
	return out.String()
}

// controllers runs an operator of both kinds.
func (w *world) controllers() {
	w.t.Helper()
	mgr, err := ctrl.NewManager(testConfig, ctrl.Options{
		Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"}, Cache: cacheOf(w.namespace), Controller: controllerOptions,
	})
	require.NoError(w.t, err)
	r := &Reconciler{
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("atlas"), pace: hurry,
		BaseURL: func(*platformv1alpha1.AtlasStack) string { return w.gated },
	}
	require.NoError(w.t, r.SetupWithManager(mgr))
	schedules := &atlasschedule.Reconciler{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("atlas")}
	require.NoError(w.t, schedules.SetupWithManager(mgr))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	w.t.Cleanup(func() { stop(); require.NoError(w.t, <-done) })
}

// bash runs a script that sees the namespace as its own.
func (w *world) bash(script string) string {
	w.t.Helper()
	user, err := testEnv.AddUser(envtest.User{Name: "reader", Groups: []string{"system:masters"}}, nil)
	require.NoError(w.t, err)
	kubeconfig, err := user.KubeConfig()
	require.NoError(w.t, err)
	dir := w.t.TempDir()
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "config"), kubeconfig, 0o600))
	cmd := exec.CommandContext(w.t.Context(), "bash", "-euo", "pipefail", "-c", "kubectl config set-context --current --namespace "+w.namespace+"\n"+script)
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	cmd.Env = append(os.Environ(), "PATH="+testenv.Require(w.t, testenv.EnvtestAssets)+":"+os.Getenv("PATH"), "KUBECONFIG="+filepath.Join(dir, "config"),
		"HOME="+dir, "COLLECTION="+testCollection)
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, "%s", out)
	return string(out)
}
