package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

// logins are two roles of the database with the same rights: both act as the role that owns everything.
type logins struct {
	*env
	owner, password string
	// database is the address of the stack's database.
	database string
}

func (e *env) newLogins(t *testing.T) logins {
	t.Helper()
	l := logins{env: e, owner: "e2e_" + uuid.NewString()[:8], password: uuid.NewString()}
	_, err := e.db.Exec(t.Context(), "CREATE ROLE "+l.owner)
	require.NoError(t, err)
	t.Cleanup(func() { // after the database is gone
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := e.db.Exec(ctx, fmt.Sprintf("DROP ROLE IF EXISTS %[1]s_a, %[1]s_b, %[1]s", l.owner))
		require.NoError(t, err)
	})
	for _, login := range []string{"a", "b"} {
		_, err := e.db.Exec(t.Context(), fmt.Sprintf("CREATE ROLE %[1]s_%[2]s LOGIN PASSWORD '%[3]s' IN ROLE %[1]s; ALTER ROLE %[1]s_%[2]s SET role = %[1]s",
			l.owner, login, l.password))
		require.NoError(t, err)
	}
	return l
}

// own gives a database to the role.
func (l *logins) own(t *testing.T, database string) {
	t.Helper()
	_, err := l.db.Exec(t.Context(), "ALTER DATABASE "+database+" OWNER TO "+l.owner)
	require.NoError(t, err)
	l.database = database
}

// url is an address with one of the two logins.
func (l *logins) url(t *testing.T, address, login string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.UserPassword(l.owner+"_"+login, l.password)
	return u.String()
}

// query asks the stack's database.
func (l *logins) query(t *testing.T, query string) pgx.Row {
	t.Helper()
	return l.connect(t).QueryRow(t.Context(), query)
}

// connect connects to the stack's database until the test ends.
func (l *logins) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	config := l.db.Config().ConnConfig.Copy()
	config.Database = l.database
	db, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.WithoutCancel(t.Context()))) })
	return db
}

// edit changes a Secret of the stack's namespace.
func (l *lifecycle) edit(t *testing.T, name string, change func(data map[string][]byte)) {
	t.Helper()
	secret := &corev1.Secret{}
	require.NoError(t, l.cluster.Get(t.Context(), ctrlclient.ObjectKey{Namespace: l.key.Namespace, Name: name}, secret))
	base := secret.DeepCopy()
	change(secret.Data)
	require.NoError(t, l.cluster.Patch(t.Context(), secret, ctrlclient.MergeFrom(base)))
}

// rolls waits until a change of a Secret has replaced the pods of the roles that use it, and the last of the former ones has ended.
func (l *lifecycle) rolls(t *testing.T, name string, change func(data map[string][]byte), of ...string) {
	t.Helper()
	before := l.pods(t, of...)
	require.NotEmpty(t, before)
	l.edit(t, name, change)
	l.awaitGone(t, before)
	l.await(t)
}

// rotateDatabase goes over to the second login. The first one can be dropped then: nobody uses it.
func (l *lifecycle) rotateDatabase(t *testing.T) {
	l.rolls(t, "database", func(data map[string][]byte) { data[urlKey] = []byte(l.logins.url(t, string(data[urlKey]), "b")) }, roles...)
	first := l.logins.owner + "_a"
	eventually(t, time.Minute, "no connection of the first login is left", func(ctx context.Context) error {
		var n int
		if err := l.db.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", first).Scan(&n); err != nil || n > 0 {
			return fmt.Errorf("%d are left: %w", n, err)
		}
		return nil
	})
	_, err := l.db.Exec(t.Context(), "DROP ROLE "+first)
	require.NoError(t, err)
}

// changePassword changes it in the database first: until the Secret has it too and the pods are new ones, no connection can be made.
func (l *lifecycle) changePassword(t *testing.T) {
	l.logins.password = uuid.NewString()
	_, err := l.db.Exec(t.Context(), fmt.Sprintf("ALTER ROLE %s_b PASSWORD '%s'", l.logins.owner, l.logins.password))
	require.NoError(t, err)
	l.rolls(t, "database", func(data map[string][]byte) { data[urlKey] = []byte(l.logins.url(t, string(data[urlKey]), "b")) }, roles...)
}

// rotateSigningKey has the generated key be due. Tokens of the old key, of which one client of the traffic has one since the beginning, stay valid.
func (l *lifecycle) rotateSigningKey(t *testing.T) {
	l.change(t, func(s *platformv1alpha1.AtlasStackSpec) {
		s.Auth.SigningKeyRotation = &platformv1alpha1.SigningKeyRotationSpec{Interval: metav1.Duration{Duration: 720 * time.Hour}}
	})
	begin := time.Now().Truncate(time.Second) // as times are in a status
	l.edit(t, l.name("auth").Name, func(data map[string][]byte) {
		data["signing-key-made"] = []byte(time.Now().Add(-721 * time.Hour).UTC().Format(time.RFC3339))
	})
	eventually(t, readyWithin, "another key signs, and the first one is accepted", func(context.Context) error {
		data := l.secret(t, "auth").Data
		if bytes.Equal(data["signing-key.pem"], l.firstKey) || !bytes.Equal(data["accepted-key.pem"], l.firstKey) {
			return errors.New("the first key signs still")
		}
		return nil
	})
	// The status that tells of the new key is written with the conditions of the roll-out that it began; until then it may say Ready still.
	eventually(t, readyWithin, "the roll-out ends", func(ctx context.Context) error {
		if key := l.stackNow(t).Status.SigningKey; key == nil || key.RotationTime.Time.Before(begin) || !key.NextRotationTime.After(begin.Add(700*time.Hour)) {
			return fmt.Errorf("the status does not know of the rotation: %v", key)
		}
		if n := len(l.pods(t, "api")); n != 2 {
			return fmt.Errorf("there are %d pods of the API", n)
		}
		return stackReady(ctx, l.env, l.key)
	})
}
