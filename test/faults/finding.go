//go:build linux

package faults

import "fmt"

// The kinds of findings. Each way to be behind is one more: see behind.
const (
	lostEvent    = "lost event"          // a write, or a version, lacks an event
	surplusEvent = "surplus event"       // an event that no write led to, or more of them than it led to
	lostState    = "lost state"          // PostgreSQL has not what clients were told
	brokenAnswer = "broken answer"       // an answer that can't be right
	oddJob       = "odd job"             // a job's events don't tell how it went
	disorder     = "disorder"            // events of an aggregate are not in the order of its versions
	repetition   = "repetition"          // an event was published twice although nothing was broken that explains it
	invalidEvent = "invalid event"       // the topic has something that is no event of the contract
	twoTruths    = "topic or trail"      // the topic and the audit trail don't have the same events
	deadLetter   = "dead letter"         // a consumer gave up on an event
	staleIndex   = "stale index"         // the index has not what PostgreSQL has
	checkFinds   = "atlas check"         // what the program's own check says
	brokenChain  = "broken chain"        // what the program's own verification of the trail says
	unpublished  = "not published"       // events that stay in the outbox
	unindexed    = "not indexed"         // items that the index does not have
	unfinished   = "not finished"        // jobs that don't end
	unhandled    = "not handled by the " // and the consumer's name: messages that it does not do
)

// finding is something that is wrong.
type finding struct{ kind, text string }

// findings are what is wrong; none is what is wanted.
type findings []finding

func (f *findings) add(kind, format string, args ...any) {
	*f = append(*f, finding{kind, fmt.Sprintf(format, args...)})
}

// first are a few of them.
func (f findings) first(n int) (out []string) {
	for _, one := range f[:min(n, len(f))] {
		out = append(out, one.kind+": "+one.text)
	}
	return out
}

// has tells whether one of the kind is among them.
func (f findings) has(kind string) bool {
	for _, one := range f {
		if one.kind == kind {
			return true
		}
	}
	return false
}

// kinds are how many there are of each kind.
func (f findings) kinds() map[string]int {
	out := map[string]int{}
	for _, one := range f {
		out[one.kind]++
	}
	return out
}
