package contract

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"
)

const (
	page          = "../../docs/api.md"
	specification = "../../services/api/openapi.yaml"
)

// TestExamples runs docs/api.md from top to bottom. It shows every operation with its success, and answers other than a success only where it says so,
// as `# answers 412`. It leaves no files.
func TestExamples(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromFile(specification)
	require.NoError(t, err)
	seen := &calls{router: router(t, document)}
	p := start(t, seen.wrap)
	admin := p.admin("admin")

	content, err := os.ReadFile(page)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script(string(content)))
	cmd.Dir, cmd.WaitDelay = t.TempDir(), 10*time.Second
	cmd.Env = append(os.Environ(), "ATLAS_URL="+p.url, "ATLAS_ADMIN_EMAIL="+admin.email, "ATLAS_ADMIN_PASSWORD="+password)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%v", out, seen.statuses)
	left, err := os.ReadDir(cmd.Dir)
	require.NoError(t, err)
	require.Empty(t, left, "a reader's folder stays as it was")

	require.Equal(t, announced(t, string(content)), seen.failures(), "%s", out)
	for _, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			require.True(t, slices.ContainsFunc(seen.statuses[operation.OperationID], func(status int) bool { return status/100 == 2 }),
				"%s has no example that succeeds", operation.OperationID)
		}
	}
}

// script joins a page's examples. They share their variables.
func script(page string) string {
	var out strings.Builder
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		out.WriteString(block[1])
	}
	return out.String()
}

// announced are the statuses that the page says are answered instead of a success, in order.
func announced(t *testing.T, page string) []int {
	t.Helper()
	var out []int
	for _, match := range regexp.MustCompile(`(?m)# answers (\d+)$`).FindAllStringSubmatch(page, -1) {
		status, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		out = append(out, status)
	}
	return out
}

func router(t *testing.T, document *openapi3.T) routers.Router {
	t.Helper()
	document.Servers = nil // the router takes the slash of "/" away from every path
	out, err := legacy.NewRouter(document)
	require.NoError(t, err)
	return out
}

// calls records what the API was asked and how it answered.
type calls struct {
	router   routers.Router
	mu       sync.Mutex
	statuses map[string][]int // by operation
	failed   []int            // all that were no success
}

func (c *calls) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &answer{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		operation := r.Method + " " + r.URL.Path
		if route, _, err := c.router.FindRoute(r); err == nil {
			operation = route.Operation.OperationID
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.statuses == nil {
			c.statuses = make(map[string][]int)
		}
		c.statuses[operation] = append(c.statuses[operation], answer.status)
		if answer.status/100 != 2 {
			c.failed = append(c.failed, answer.status)
		}
	})
}

func (c *calls) failures() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// answer remembers the status that was sent.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find what the writer can do.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
