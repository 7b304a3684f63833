// Package apply is how the controllers change the cluster and speak about it: server-side apply under one field manager
// that writes nothing when nothing changed, the conditions of a status, and the typed errors that steps return.
package apply

import (
	"errors"
	"time"
)

// Stalled is returned by a step that can't go on until a person changes something. It is not retried with a back-off.
type Stalled struct {
	Reason  string // CamelCase, for the condition
	Message string // what is wrong and the way out
	// After is when to look again at something else of the same step; 0 when there is nothing.
	After time.Duration
}

func (e *Stalled) Error() string { return e.Message }

// Waiting is returned by a step that is not done yet and expects to be, without a person or with one.
type Waiting struct {
	Reason  string
	Message string
	// After is when to look again; a watch may be sooner.
	After time.Duration
	// Lost is true when the other side can't be reached, so that nothing is known about it. A condition that was True
	// turns Unknown, not False. The message is of the other side alone, not of what was asked: others are told it too.
	Lost bool
}

func (e *Waiting) Error() string { return e.Message }

// AsStalled returns the Stalled in err's chain.
func AsStalled(err error) (*Stalled, bool) {
	var stalled *Stalled
	return stalled, errors.As(err, &stalled)
}

// AsWaiting returns the Waiting in err's chain.
func AsWaiting(err error) (*Waiting, bool) {
	var waiting *Waiting
	return waiting, errors.As(err, &waiting)
}

// Outdated is returned by a step whose object does its work and is not as it should be. The steps after it go on, and Ready does not wait for it.
type Outdated struct {
	Reason  string
	Message string
	// Index is the index that is searched and Hash the definition that another one should have.
	Index, Hash string
}

func (e *Outdated) Error() string { return e.Message }

// AsOutdated returns the Outdated in err's chain.
func AsOutdated(err error) (*Outdated, bool) {
	var outdated *Outdated
	return outdated, errors.As(err, &outdated)
}
