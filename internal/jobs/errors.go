package jobs

import (
	"errors"
	"fmt"
)

var (
	// ErrLeaseLost means that the job belongs to another worker, or to nobody, by now. What this worker does for it is void.
	ErrLeaseLost = errors.New("the job's lease is lost")
	// ErrCancelled is the cause of the end of a task's context when somebody cancelled the job.
	ErrCancelled = errors.New("the job is cancelled")
	// ErrHeld is the cause of the end of a task's context when the job is to wait. It goes on from its checkpoint, in the same attempt.
	ErrHeld = errors.New("the job is held")
)

// Codes of errors that the engine itself gives. Kinds have codes of their own: snake_case, stable.
const (
	CodeFailed        = "failed" // of an error without a code
	CodePanic         = "panic"
	CodeLeaseLost     = "lease_lost"
	CodeInvalidResult = "invalid_result"
)

// Error is an error with a code that clients can decide on.
type Error struct {
	Code string
	Err  error
}

// Errorf makes an Error, as fmt.Errorf does.
func Errorf(code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives errors.Is what is wrapped.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of an error, or of one that it wraps.
func CodeOf(err error) string {
	var coded *Error
	if errors.As(err, &coded) {
		return coded.Code
	}
	return CodeFailed
}

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error that no further attempt can mend: the job fails at once.
func Permanent(err error) error { return permanentError{err} }

type laterError struct{ error }

func (e laterError) Unwrap() error { return e.error }

// Later marks an error that says what the job has to wait for: it goes back into the queue for some seconds and uses up no attempt.
func Later(err error) error { return laterError{err} }

func isLater(err error) bool {
	var later laterError
	return errors.As(err, &later)
}

func isPermanent(err error) bool {
	var permanent permanentError
	return errors.As(err, &permanent)
}
