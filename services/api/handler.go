package api

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/atlas-platform/atlas/internal/bounded"
	"github.com/atlas-platform/atlas/internal/cursor"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
	"github.com/atlas-platform/atlas/internal/password"
	"github.com/atlas-platform/atlas/internal/postgres"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/internal/tasks"
	"github.com/atlas-platform/atlas/internal/token"
	"github.com/atlas-platform/atlas/services/api/gen"
)

// requestTimeout bounds a request's work. It is shorter than writeTimeout, so that the caller still gets an answer.
const requestTimeout = 30 * time.Second

// server implements the generated interface; its methods are in the files named after what they handle.
type server struct {
	logger   *slog.Logger
	pool     *pgxpool.Pool
	queries  *db.Queries
	searcher Searcher
	hasher   *password.Hasher
	issuer   *token.Issuer
	verifier *token.Cache
	keys     []ed25519.PublicKey
	cursors  cursor.Codec
	limiter  *rateLimiter
	cors     corsPolicy
	personal *bounded.Map[[sha256.Size]byte, personalToken]
	nudge    func()
	wake     func() // the workers
	clock    func() time.Time
	// refreshTTL is how long a session lasts without being refreshed.
	refreshTTL time.Duration
	// trashRetention is how long deleted items can be restored.
	trashRetention time.Duration
	closed         bool // to new accounts
	// searchWait is how long wait_for waits at most, and waits are those who do.
	searchWait  time.Duration
	waits       rounds[waitQuestion, awaited]
	transfers   *slots
	largeBodies *slots
	objects     objects.Store
	// kinds are those of jobs.
	kinds []jobs.Kind
	// watches are those who watch jobs, watchers how many, and draining is closed when they have to go.
	watches  rounds[watchQuestion, watched]
	watchers *slots
	draining <-chan struct{}
}

var _ gen.StrictServerInterface = (*server)(nil)

// releaseMode keeps gin from printing its routes. It is gin's only switch for this and one for the whole process.
var releaseMode = sync.OnceFunc(func() { gin.SetMode(gin.ReleaseMode) })

// NewHandler returns the whole REST API. It reads the signing key and starts nothing.
func NewHandler(cfg Config, deps Deps) (http.Handler, error) {
	s, err := newServer(cfg, deps)
	if err != nil {
		return nil, err
	}
	spec, err := loadSpec()
	if err != nil {
		return nil, err
	}
	observe, err := newObserver(deps.Logger, deps.Registry)
	if err != nil {
		return nil, err
	}

	releaseMode()
	engine := gin.New()
	engine.ContextWithFallback = true // handlers get gin's context: deadlines and values come from the request's
	engine.HandleMethodNotAllowed = true
	// Whoever is not such a proxy can't choose the address under which its failed logins are counted.
	if err := engine.SetTrustedProxies(cfg.TrustedProxies); err != nil {
		return nil, fmt.Errorf("TRUSTED_PROXIES: %w", err)
	}
	engine.RemoteIPHeaders = []string{"X-Forwarded-For"} // no other that a proxy may let through from anybody
	engine.RedirectTrailingSlash = false
	engine.Use(trace, observe.middleware, s.recover, secureHeaders, s.cors.answer)
	engine.NoRoute(func(c *gin.Context) { s.fail(c, notFound("nothing is at this path; /docs says what is where")) })
	engine.NoMethod(s.otherMethod(spec))

	around := withHead{engine}
	around.GET("/livez", gin.WrapF(deps.Health.Live))
	around.GET("/readyz", gin.WrapF(deps.Health.Ready))
	addDocs(around, spec)

	operations := withHead{engine.Group("", deadline, keepSecrets, s.authenticate(spec), s.limitTransfers, s.validate(spec))}
	strict := gen.NewStrictHandlerWithOptions(s, []gen.StrictMiddlewareFunc{s.confirmed}, gen.StrictGinServerOptions{
		RequestErrorHandlerFunc:  func(c *gin.Context, err error) { s.fail(c, badRequest(err.Error())) },
		HandlerErrorFunc:         func(c *gin.Context, err error) { s.fail(c, err) },
		ResponseErrorHandlerFunc: func(c *gin.Context, err error) { s.fail(c, fmt.Errorf("%w: %w", errAnswer, err)) },
	})
	gen.RegisterHandlersWithOptions(operations, strict, gen.GinServerOptions{
		ErrorHandler: func(c *gin.Context, err error, _ int) { s.fail(c, badRequest(err.Error())) },
	})
	addShadows(engine, spec, s.otherMethod(spec))
	return compress(engine)
}

func newServer(cfg Config, deps Deps) (*server, error) {
	key := deps.SigningKey
	if key == nil {
		var err error
		if key, err = token.LoadSigningKey(cfg.SigningKeyFile); err != nil {
			return nil, fmt.Errorf("JWT_SIGNING_KEY_FILE: %w", err)
		}
	}
	keys := []ed25519.PrivateKey{key}
	previous := deps.PreviousKey
	if previous == nil && cfg.PreviousKeyFile != "" {
		var err error
		if previous, err = token.LoadSigningKey(cfg.PreviousKeyFile); err != nil {
			return nil, fmt.Errorf("JWT_PREVIOUS_KEY_FILE: %w", err)
		}
	}
	if previous != nil && !previous.Equal(key) {
		keys = append(keys, previous)
	}
	return newServerWithKeys(cfg, deps, keys)
}

// newServerWithKeys signs with the first key and accepts what any of them has signed.
func newServerWithKeys(cfg Config, deps Deps, keys []ed25519.PrivateKey) (*server, error) {
	cursors, err := cursor.New(keys...)
	if err != nil {
		return nil, err
	}
	public := make([]ed25519.PublicKey, len(keys))
	for i, key := range keys {
		public[i] = token.PublicKey(key)
	}
	s := &server{
		logger:    deps.Logger,
		pool:      deps.Pool,
		objects:   deps.Objects,
		queries:   db.New(deps.Pool),
		searcher:  deps.Searcher,
		transfers: newSlots(maxTransfers, maxOwnTransfers), largeBodies: newSlots(maxLargeBodies, maxOwnLargeBodies),
		hasher:   password.NewHasher(password.Minimum, runtime.GOMAXPROCS(0)),
		issuer:   token.NewIssuer(keys[0], cfg.Issuer, cfg.Audience, cfg.AccessTokenTTL, deps.Clock),
		verifier: token.NewCache(token.NewVerifier(cfg.Issuer, cfg.Audience, deps.Clock, public...), deps.Clock),
		keys:     public,
		cursors:  cursors,
		limiter:  newRateLimiter(cfg.RateLimit),
		cors:     newCORSPolicy(cfg.CORSOrigins),
		personal: bounded.New[[sha256.Size]byte](maxKnownTokens, func(personalToken) int64 { return 0 }),
		nudge:    deps.Nudge,
		wake:     deps.WakeWorkers,
		clock:    deps.Clock,

		refreshTTL:     cfg.RefreshTTL,
		trashRetention: cfg.Trash.Retention,
		closed:         cfg.Registration == registrationClosed,
		searchWait:     deps.SearchWait,

		kinds: tasks.Kinds(), watchers: newSlots(maxWatchers, maxOwnWatchers), draining: deps.Health.Draining(),
	}
	s.waits.look = s.look
	s.watches.look, s.watches.gather = s.lookAtJobs, watchGather
	if s.searchWait == 0 {
		s.searchWait = defaultSearchWait
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.nudge == nil {
		s.nudge = func() {}
	}
	if s.wake == nil {
		s.wake = func() {}
	}
	return s, nil
}

// now is the time of a write, in the precision that PostgreSQL keeps.
func (s *server) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// write runs work in one transaction and wakes the relay after the commit.
func (s *server) write(ctx context.Context, work func(q *db.Queries) error) error {
	return s.writeTx(ctx, func(_ pgx.Tx, q *db.Queries) error { return work(q) })
}

// writeTx is write for work that needs savepoints.
func (s *server) writeTx(ctx context.Context, work func(tx pgx.Tx, q *db.Queries) error) error {
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error { return work(tx, db.New(tx)) })
	if err != nil {
		return err
	}
	s.nudge()
	return nil
}

// deadline bounds the work of one request.
func deadline(c *gin.Context) {
	timeout := requestTimeout
	switch {
	case isTransfer(c):
		timeout = transferTimeout
	case isWatch(c):
		timeout = watchTimeout
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), timeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	c.Next()
}

// secureHeaders forbids browsers everything that JSON answers do not need. The reference page sets a policy of its own.
func secureHeaders(c *gin.Context) {
	maps.Copy(c.Writer.Header(), secure)
	c.Next()
}

var secure = http.Header{
	"X-Content-Type-Options":  {"nosniff"},
	"Referrer-Policy":         {"no-referrer"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
	"Cache-Control":           {"no-store"},
}

// missing reports whether a query found no row.
func missing(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
