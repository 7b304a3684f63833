// Package rbactest compares the rights that a controller asks for, by the kubebuilder markers of its package, with those that its tests used. That none is missing the
// tests notice by themselves, because they run as a user with the generated role.
package rbactest

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Recorder remembers the rights that requests to an API server used.
type Recorder struct {
	mu   sync.Mutex
	used map[string]bool
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Wrap is for rest.Config.Wrap.
func (r *Recorder) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if right := rightOf(request); right != "" {
			r.mu.Lock()
			if r.used == nil {
				r.used = map[string]bool{}
			}
			r.used[right] = true
			if request.Header.Get("Content-Type") == string(types.ApplyYAMLPatchType) || request.Header.Get("Content-Type") == string(types.ApplyCBORPatchType) {
				// Server-side apply makes what is not there.
				r.used[strings.Replace(right, " patch", " create", 1)] = true
			}
			r.mu.Unlock()
		}
		return next.RoundTrip(request)
	})
}

// rightOf is the right that a request uses, group/resource verb; "" for one that is no matter of resources.
func rightOf(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var group string
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		group, parts = parts[1], parts[3:]
	default:
		return ""
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	resource, named := parts[0], len(parts) > 1
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	verb := map[string]string{http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	switch {
	case verb == "delete" && !named:
		verb = "deletecollection"
	case verb != "":
	case r.URL.Query().Get("watch") != "":
		verb = "watch"
	case named:
		verb = "get"
	default:
		verb = "list"
	}
	return group + "/" + resource + " " + verb
}

var marker = regexp.MustCompile(`(?m)^// \+kubebuilder:rbac:groups=("?[^,\s]*"?),resources=([^,\s]+),verbs=(\S+)`)

// Check returns an error that names the rights that the markers in dir ask for and no request used, and those that requests used and no marker asks for. Only a run of all
// tests tells: for any other it returns nil.
func (r *Recorder) Check(dir string, exceptions ...string) error {
	if f := flag.Lookup("test.run"); (f != nil && f.Value.String() != "") || flag.Lookup("test.skip").Value.String() != "" {
		return nil
	}
	asked, err := markers(dir)
	if err != nil {
		return err
	}
	return r.compare(asked, true, "no marker in "+dir+" asks for it", exceptions)
}

// CheckRules returns an error that names the rights that rules give and no request used. That none is missing is not looked at.
func (r *Recorder) CheckRules(rules []rbacv1.PolicyRule, exceptions ...string) error {
	given := map[string]bool{}
	for _, rule := range rules {
		addRights(given, rule.APIGroups, rule.Resources, rule.Verbs)
	}
	return r.compare(given, false, "", exceptions)
}

func (r *Recorder) compare(asked map[string]bool, all bool, missing string, exceptions []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for right := range r.used {
		if resource, watched := strings.CutSuffix(right, " watch"); watched {
			r.used[resource+" list"] = true // an informer does either, as the server allows
		}
	}
	var errs []error
	for right := range asked {
		if !r.used[right] && !slices.Contains(exceptions, right) {
			errs = append(errs, fmt.Errorf("the role may %q, and no test used that", right))
		}
	}
	for right := range r.used {
		if all && !asked[right] && !slices.Contains(exceptions, right) {
			errs = append(errs, fmt.Errorf("a test used %q, and %s", right, missing))
		}
	}
	return errors.Join(errs...)
}

func markers(dir string) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("look for the sources: %w", err)
	}
	out := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read a source: %w", err)
		}
		for _, m := range marker.FindAllSubmatch(source, -1) {
			list := func(i int) []string { return strings.Split(strings.ReplaceAll(string(m[i]), `"`, ""), ";") }
			addRights(out, list(1), list(2), list(3))
		}
	}
	return out, nil
}

func addRights(to map[string]bool, groups, resources, verbs []string) {
	for _, group := range groups {
		for _, resource := range resources {
			for _, verb := range verbs {
				to[group+"/"+resource+" "+verb] = true
			}
		}
	}
}
