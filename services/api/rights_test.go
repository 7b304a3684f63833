package api_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/token"
)

// right is a row of the matrix: what each caller is answered to one request.
type right struct {
	operation, variant string
	// want is in the order of roles. What others get follows from the operation.
	want [6]int
	// with makes what the request needs, anew for each caller, and the request; who is a person with an account: the owner, for those who have none.
	with func(who *account) request
}

// request is what a right fills into an operation.
type request struct {
	ids         map[string]string // path parameters
	query       string
	body        any
	contentType string
}

// roles are the callers whose rights differ from operation to operation; admin and operator are no members.
var roles = []string{"stranger", "viewer", "editor", "owner", "admin", "operator"}

// others are the callers who can't prove to be somebody, or not enough, and what they are answered.
var others = map[string]int{"anonymous": 401, "disabled": 401, "expired": 401, "out of scope": 403}

// open is the row of an operation that asks nobody who they are.
func open(status int) [6]int { return [6]int{status, status, status, status, status, status} }

// TestRights asks for every operation of the specification as everybody. An operation without a row fails, and so does a row without an operation.
func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operations := specified(t)
	rows := w.rights()
	covered := make(map[string]bool)
	for _, row := range rows {
		operation, found := operations[row.operation]
		require.True(t, found, "the specification has no operation %s", row.operation)
		covered[row.operation] = true
		t.Run(strings.TrimSuffix(row.operation+"/"+row.variant, "/"), func(t *testing.T) { w.check(t, row, operation) })
	}
	for name := range operations {
		require.True(t, covered[name], "%s has no row in the matrix of rights", name)
	}
}

// specifiedOperation is an operation and where it is.
type specifiedOperation struct {
	*openapi3.Operation
	method, path string
}

func (o specifiedOperation) public() bool { return o.Security != nil && len(*o.Security) == 0 }

func specified(t *testing.T) map[string]specifiedOperation {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	out := make(map[string]specifiedOperation)
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			out[operation.OperationID] = specifiedOperation{Operation: operation, method: method, path: path}
		}
	}
	return out
}

// world has a collection and everybody who may or may not use it.
type world struct {
	*testBundle
	callers                 map[string]*account
	owner, editor, viewer   *account
	guest                   *account // who comes and goes
	collection, job         string
	readOnly, writeOnly     *account
	registered, collections int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	b := setup(t)
	w := &world{testBundle: b, owner: b.withPassword("owner"), editor: b.withPassword("editor"), viewer: b.withPassword("viewer"), guest: b.account("guest")}
	disabled := b.withPassword("disabled")
	w.collection = b.collection(w.owner, "shared")
	b.member(w.owner, w.collection, w.editor, "editor")
	b.member(w.owner, w.collection, w.viewer, "viewer")
	b.member(w.owner, w.collection, disabled, "owner")
	w.job = b.call(w.owner, "POST", "/v1/jobs", reindex(w.collection)).is(202).id()
	_, err := b.pool.Exec(t.Context(), "UPDATE users SET disabled_at = now() WHERE id = $1", disabled.id)
	require.NoError(t, err)
	past := func() time.Time { return time.Now().Add(-time.Hour) }
	access, err := token.NewIssuer(b.key, "atlas", "atlas-api", time.Minute, past).Mint(uuidOf(t, w.owner.id))
	require.NoError(t, err)
	admin := b.withPassword("admin")
	_, err = b.pool.Exec(t.Context(), "UPDATE users SET is_admin = true WHERE id = $1", admin.id)
	require.NoError(t, err)
	w.callers = map[string]*account{
		"anonymous": nil, "stranger": b.withPassword("stranger"), "viewer": w.viewer, "editor": w.editor, "owner": w.owner, "admin": admin,
		"operator": b.operator(), "disabled": disabled, "expired": {id: w.owner.id, email: w.owner.email, token: access},
	}
	w.readOnly, _ = b.personal(w.owner, "read")
	w.writeOnly, _ = b.personal(w.owner, "write")
	return w
}

// wanted adds what does not depend on the operation: who can't say who they are is told so, and an API token without the scope is told that.
func (r right) wanted(operation specifiedOperation) map[string]int {
	out := make(map[string]int)
	for i, name := range roles {
		out[name] = r.want[i]
	}
	for name, status := range others {
		if operation.public() {
			status = r.want[0]
		}
		out[name] = status
	}
	return out
}

func (w *world) check(t *testing.T, row right, operation specifiedOperation) {
	wanted := row.wanted(operation)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		who, need := w.callers[name], "write"
		if operation.method == http.MethodGet {
			need = "read"
		}
		if name == "out of scope" {
			if who = w.readOnly; need == "read" {
				who = w.writeOnly
			}
		}
		as := who
		if _, refused := others[name]; refused || name == "operator" { // the request is the owner's, but for the token
			as = w.owner
		}
		r := row.with(as)
		path := operation.path
		for parameter, value := range r.ids {
			path = strings.ReplaceAll(path, "{"+parameter+"}", value)
		}
		require.NotContains(t, path, "{")
		if r.query != "" {
			path += "?" + r.query
		}
		var options []option
		if r.contentType != "" {
			options = append(options, header("Content-Type", r.contentType))
		}
		before := len(w.envelopes())
		a := w.call(who, operation.method, path, r.body, options...)
		require.Equal(t, wanted[name], a.status, "as %s: %s", name, a.raw)
		if a.status < 400 {
			continue
		}
		a.is(a.status)
		require.Len(t, w.envelopes(), before, "as %s it was refused and must leave no event", name)
		if name == "out of scope" && !operation.public() {
			require.Contains(t, a.header.Get("WWW-Authenticate"), `error="insufficient_scope", scope="`+need+`"`)
		}
		if a.status == 403 && (name == "viewer" || name == "editor") && row.want[3] < 400 {
			require.Contains(t, a.body["detail"], "owner", "says which role is needed")
		}
	}
}
