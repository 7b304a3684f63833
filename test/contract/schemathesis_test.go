package contract

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/client"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// TestSchemathesis has requests made up from the specification, valid ones and invalid ones, alone and in chains, and checks every answer.
// schemathesis.toml says how many and which answers are right; hooks.py knows what the specification has no words for.
func TestSchemathesis(t *testing.T) {
	program := testenv.Require(t, testenv.Schemathesis)
	p := start(t, nil)
	ada, eve, admin := p.person("ada"), p.person("eve"), p.admin("admin")
	seed(t, p.person("friend"), ada, eve)
	guests := []*person{p.person("guest1"), p.person("guest2"), p.person("guest3")}
	known := map[string]any{
		"people": []uuid.UUID{ada.id, eve.id, admin.id}, // who must stay able to act
		"guests": []string{guests[0].email, guests[1].email, guests[2].email}, "guest": guests[0].id,
		"login":    map[string]any{"email": ada.email, "password": password},
		"tomorrow": time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339),
	}

	for _, file := range []string{"schemathesis.toml", "hooks.py"} { // or go test would not know that its result depends on them
		_, err := os.Stat(file)
		require.NoError(t, err)
	}
	dir := t.TempDir()
	write := func(name string, content any) string {
		encoded, err := json.MarshalIndent(content, "", "  ")
		require.NoError(t, err)
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, encoded, 0o600))
		return path
	}
	login := func(name string, who *person) map[string]any {
		return map[string]any{"name": name, "fixedHeaders": []map[string]string{{"name": "Authorization", "value": "Bearer " + who.token}}}
	}
	people := write("people.json", map[string]any{
		"auth": []any{login("ada", ada), login("eve", eve), login("admin", admin)},
	})
	files := []string{"PYTHONPATH=.", "PYTHONDONTWRITEBYTECODE=1", "ATLAS_PEOPLE=" + people, "ATLAS_KNOWN=" + write("known.json", known)}
	run := func(t *testing.T, as string, options ...string) {
		t.Helper()
		args := append([]string{"--config-file", "schemathesis.toml", "run", p.url + "/openapi.json", "--auth-wfc-user", as}, options...)
		cmd := exec.CommandContext(t.Context(), program, append(args, strings.Fields(os.Getenv("ATLAS_SCHEMATHESIS"))...)...)
		cmd.Env = append(os.Environ(), files...)
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		cmd.WaitDelay = 10 * time.Second
		require.NoError(t, cmd.Run())
	}
	t.Run("user", func(t *testing.T) { run(t, "ada", "--phases", "examples,coverage,fuzzing") })
	// What a chain does depends on what earlier ones have left, so it can't be repeated exactly. Schemathesis gives up then; with a time it starts again.
	t.Run("chains", func(t *testing.T) { run(t, "ada", "--phases", "stateful", "--max-time", "45") })
	t.Run("admin", func(t *testing.T) { run(t, "admin", "--max-examples", "10") })
}

// seed gives people something of everything, and a friend to share it with.
func seed(t *testing.T, friend *person, people ...*person) {
	t.Helper()
	ctx := t.Context()
	for _, who := range people {
		collection, err := who.CreateCollectionWithResponse(ctx, nil, client.CollectionCreate{Name: "Engines"})
		require.NoError(t, err)
		require.NoError(t, client.Check(collection.HTTPResponse, collection.Body))
		id := collection.JSON201.ID
		for _, title := range []string{"Note G", "Analytical engine", "Difference engine"} {
			item, err := who.CreateItemWithResponse(ctx, nil, client.ItemCreate{
				CollectionID: id, Title: title, Content: "It weaves algebraic patterns.", Tags: &client.Tags{"history", title},
			})
			require.NoError(t, err)
			require.NoError(t, client.Check(item.HTTPResponse, item.Body))
		}
		added, err := who.AddMemberWithResponse(ctx, id, nil, client.MemberAdd{Email: friend.email, Role: client.Viewer})
		require.NoError(t, err)
		require.NoError(t, client.Check(added.HTTPResponse, added.Body))
		_, err = who.LoginWithResponse(ctx, client.LoginRequest{Email: who.email, Password: password}) // a session
		require.NoError(t, err)
		reindex, err := client.NewJob("reindex", client.ReindexParameters{CollectionID: &id})
		require.NoError(t, err)
		job, err := who.CreateJobWithResponse(ctx, nil, reindex)
		require.NoError(t, err)
		require.NoError(t, client.Check(job.HTTPResponse, job.Body))
	}
}
