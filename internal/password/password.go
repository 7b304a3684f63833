// Package password hashes and checks passwords with argon2id. A Hasher bounds how many run at a time, because each one takes memory.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"
)

// Parameters cost one hash its time and memory.
type Parameters struct {
	MemoryKiB   uint32
	Iterations  uint32
	Parallelism uint8
}

// Minimum is what OWASP's password storage cheat sheet asks for at least: 19 MiB, two passes, one lane.
var Minimum = Parameters{MemoryKiB: 19 << 10, Iterations: 2, Parallelism: 1}

const (
	saltLength = 16
	keyLength  = 32
	// A stored hash may not make the server work harder than this, whoever wrote it.
	maxMemoryKiB  = 1 << 20
	maxIterations = 64
)

// ErrMalformed is wrapped by errors about a stored hash that can't be read.
var ErrMalformed = errors.New("malformed password hash")

// Hasher hashes and verifies. It is safe for concurrent use.
type Hasher struct {
	parameters Parameters
	slots      *semaphore.Weighted
	absent     string
}

// NewHasher returns a Hasher that runs at most concurrency hashes at a time; further calls wait.
func NewHasher(parameters Parameters, concurrency int) *Hasher {
	h := &Hasher{parameters: parameters, slots: semaphore.NewWeighted(int64(max(concurrency, 1)))}
	h.absent = h.encode(rand.Text(), make([]byte, saltLength))
	return h
}

// Hash returns a PHC string: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // never fails: it ends the program instead
	if err := h.slots.Acquire(ctx, 1); err != nil {
		return "", fmt.Errorf("wait to hash a password: %w", err)
	}
	defer h.slots.Release(1)
	return h.encode(password, salt), nil
}

// Verify reports whether password matches the stored PHC string, and whether that string was made with other parameters than the Hasher's and
// should be replaced.
func (h *Hasher) Verify(ctx context.Context, stored, password string) (match, outdated bool, err error) {
	parameters, salt, want, err := decode(stored)
	if err != nil {
		return false, false, err
	}
	if err := h.slots.Acquire(ctx, 1); err != nil {
		return false, false, fmt.Errorf("wait to verify a password: %w", err)
	}
	defer h.slots.Release(1)
	length := uint32(len(want)) //nolint:gosec // decode bounds it to 255
	got := argon2.IDKey([]byte(password), salt, parameters.Iterations, parameters.MemoryKiB, parameters.Parallelism, length)
	match = subtle.ConstantTimeCompare(got, want) == 1
	return match, parameters != h.parameters || len(want) != keyLength, nil
}

// VerifyAbsent takes the time of Verify for an account that does not exist, so that the answer's time tells nothing.
func (h *Hasher) VerifyAbsent(ctx context.Context, password string) error {
	_, _, err := h.Verify(ctx, h.absent, password)
	return err
}

func (h *Hasher) encode(password string, salt []byte) string {
	p := h.parameters
	key := argon2.IDKey([]byte(password), salt, p.Iterations, p.MemoryKiB, p.Parallelism, keyLength)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.MemoryKiB, p.Iterations, p.Parallelism,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

func decode(stored string) (p Parameters, salt, key []byte, err error) {
	fields := strings.Split(stored, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, fmt.Errorf("%w: not an argon2id PHC string", ErrMalformed)
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &p.MemoryKiB, &p.Iterations, &p.Parallelism); err != nil {
		return p, nil, nil, fmt.Errorf("%w: parameters", ErrMalformed)
	}
	if p.MemoryKiB == 0 || p.MemoryKiB > maxMemoryKiB || p.Iterations == 0 || p.Iterations > maxIterations || p.Parallelism == 0 {
		return p, nil, nil, fmt.Errorf("%w: parameters out of range", ErrMalformed)
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(fields[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(fields[5])
	if saltErr != nil || keyErr != nil || len(salt) < 8 || len(key) < 16 || len(key) > math.MaxUint8 {
		return p, nil, nil, fmt.Errorf("%w: salt or hash", ErrMalformed)
	}
	return p, salt, key, nil
}
