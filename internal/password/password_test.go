package password

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHashAndVerify(t *testing.T) {
	t.Parallel()
	h := NewHasher(Minimum, 2)
	stored, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$"), stored)
	again, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.NotEqual(t, stored, again, "a salt of its own")

	match, outdated, err := h.Verify(t.Context(), stored, "correct horse")
	require.NoError(t, err)
	require.True(t, match)
	require.False(t, outdated)
	match, _, err = h.Verify(t.Context(), stored, "wrong horse")
	require.NoError(t, err)
	require.False(t, match)
	require.NoError(t, h.VerifyAbsent(t.Context(), "anything"))
}

func TestVerifySaysWhatIsOutdated(t *testing.T) {
	t.Parallel()
	old := NewHasher(Parameters{MemoryKiB: 1024, Iterations: 1, Parallelism: 1}, 1)
	stored, err := old.Hash(t.Context(), "secret")
	require.NoError(t, err)
	match, outdated, err := NewHasher(Parameters{MemoryKiB: 1024, Iterations: 2, Parallelism: 1}, 1).Verify(t.Context(), stored, "secret")
	require.NoError(t, err)
	require.True(t, match)
	require.True(t, outdated)
}

func TestVerifyRefusesMalformedHashes(t *testing.T) {
	t.Parallel()
	h := NewHasher(Parameters{MemoryKiB: 1024, Iterations: 1, Parallelism: 1}, 1)
	for name, stored := range map[string]string{
		"empty":       "",
		"bcrypt":      "$2a$10$abcdefghijklmnopqrstuv",
		"argon2i":     "$argon2i$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdA",
		"no numbers":  "$argon2id$v=19$m=,t=,p=$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdA",
		"huge memory": "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdA",
		"zero passes": "$argon2id$v=19$m=1024,t=0,p=1$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdA",
		"short hash":  "$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$c2FsdA",
		"bad base64":  "$argon2id$v=19$m=1024,t=1,p=1$!!!!$c2FsdHNhbHRzYWx0c2FsdA",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := h.Verify(t.Context(), stored, "x")
			require.ErrorIs(t, err, ErrMalformed)
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	h := NewHasher(Parameters{MemoryKiB: 1024, Iterations: 1, Parallelism: 1}, 1)
	require.NoError(t, h.slots.Acquire(t.Context(), 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Hash(ctx, "x")
	require.ErrorIs(t, err, context.Canceled)
}
