package jobs

import "context"

// Task is a kind of job: what it is, and the work. A kind is one file of internal/tasks.
type Task interface {
	Kind() Kind
	// Run does the work of one attempt. It is idempotent: it may run again from any checkpoint that it saved, or from the start. It returns soon after
	// ctx is done. Its result is stored as JSON; beside an error too, when it ends the job: a report of what is wrong, for example.
	Run(ctx context.Context, x *Execution) (result any, err error)
}

// Scope says what a job of a kind is about.
type Scope string

// The scopes.
const (
	ScopeCollection Scope = "collection" // one collection: its owners and editors may queue it
	ScopePlatform   Scope = "platform"   // all of Atlas: for platform admins
	ScopeEither     Scope = "either"     // one collection where the job names one, else all of Atlas
)

// Kind describes a kind of job.
type Kind struct {
	// Name is the type of the jobs, such as reindex.
	Name string
	// Summary says in one sentence what a job does.
	Summary string
	Scope   Scope
	// Parameters is the zero value of the struct that the jobs' parameters are; nil when there are none. What clients may send follows from it.
	Parameters any
	// Files says that the jobs need an object store.
	Files bool
	// Internal kinds are queued by the platform alone.
	Internal bool
	// MaxAttempts is how often a job is tried; 0 means DefaultMaxAttempts.
	MaxAttempts int
	// Concurrency is how many jobs of the kind run at the same time, over all workers; 0 means as many as the workers take.
	Concurrency int
}

// DefaultMaxAttempts is how often a job is tried whose kind doesn't say.
const DefaultMaxAttempts = 5

// Func is a kind of job whose work is a function.
func Func(kind Kind, run func(ctx context.Context, x *Execution) (any, error)) Task {
	return function{kind, run}
}

type function struct {
	kind Kind
	run  func(ctx context.Context, x *Execution) (any, error)
}

func (f function) Kind() Kind { return f.kind }

func (f function) Run(ctx context.Context, x *Execution) (any, error) { return f.run(ctx, x) }
