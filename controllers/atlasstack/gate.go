package atlasstack

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/template"
	"github.com/atlas-platform/atlas/controllers/topic"
)

const (
	// mostAsking is how many reconciliations may ask one server at the same time, and mostDoubted how many may ask servers that are not known to answer. Both leave
	// workers to the other stacks while those wait for answers that don't come.
	mostAsking  = workers / 3
	mostDoubted = workers / 2
	// busyRetry is when a stack that found a server busy comes back.
	busyRetry = 300 * time.Millisecond
	// lostRetry is how long a server that could not be reached is not asked again in the same name.
	lostRetry = 2 * time.Second
)

// gates keep a server that does not answer from holding up other stacks: to find that out takes seconds, of a worker each. As long as a server is not known to answer
// somebody, one reconciliation asks it in his name, and the others take its word. The idea is that of a circuit breaker.
type gates struct {
	mu      sync.Mutex
	asking  map[string]int // by server
	doubted int
	callers map[string]*caller
}

// caller is who asks a server: several stacks may have the same credentials, and others wrong ones.
type caller struct {
	asking  int
	answers bool
	// lost is what the last one to ask was told of the server, and stays true until then.
	lost  *apply.Waiting
	until time.Time
}

// busy means that others are asking a server. Where it is not told apart it is waited for.
type busy struct{}

func (busy) Error() string { return "waiting for other stacks that ask the same server" }

func (b busy) Unwrap() error {
	return &apply.Waiting{Reason: v1alpha1.ReasonProgressing, Message: b.Error(), After: busyRetry}
}

// ask asks a server as somebody, unless it is busy or was lost to him a moment ago.
func (g *gates) ask(server, as string, ask func() error) error {
	c, doubted, err := g.enter(server, as)
	if err != nil {
		return err
	}
	answers := false // until it is known, also when it panics
	var lost *apply.Waiting
	defer func() { g.leave(server, c, doubted, answers, lost) }()
	err = ask()
	if waiting, ok := apply.AsWaiting(err); ok && waiting.Lost {
		lost = waiting
	}
	answers = lost == nil
	return err
}

// enter lets somebody ask, and tells whether it is doubted that he gets an answer.
func (g *gates) enter(server, as string) (c *caller, doubted bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.callers == nil {
		g.callers, g.asking = map[string]*caller{}, map[string]int{}
	}
	c = g.callers[server+as]
	if c == nil {
		c = &caller{}
		g.callers[server+as] = c
	}
	switch {
	case c.lost != nil && (c.asking > 0 || time.Now().Before(c.until)):
		return nil, false, c.lost
	case g.asking[server] >= mostAsking, !c.answers && (c.asking > 0 || g.doubted >= mostDoubted):
		return nil, false, busy{}
	}
	g.asking[server]++
	c.asking++
	if !c.answers {
		g.doubted++
	}
	return c, !c.answers, nil
}

func (g *gates) leave(server string, c *caller, doubted, answers bool, lost *apply.Waiting) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asking[server]--; g.asking[server] == 0 {
		delete(g.asking, server)
	}
	c.asking--
	if doubted {
		g.doubted--
	}
	c.answers, c.lost = answers, lost
	if lost != nil {
		c.until = time.Now().Add(lostRetry)
	}
}

// forget drops what is known of those who ask nothing at the moment.
func (g *gates) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, c := range g.callers {
		if c.asking == 0 {
			delete(g.callers, name)
		}
	}
}

func kafkaServer(target topic.Target) string { return "kafka " + strings.Join(target.Brokers, ",") }

func elasticServer(target template.Target) string {
	return "elasticsearch " + strings.Join(target.Addresses, ",") + target.CloudID
}

// digest tells callers of a server apart. It holds their secrets, so it stays in memory.
func digest(target any) string {
	// Targets are structs of strings and bytes, which always encode.
	body, _ := json.Marshal(target)
	sum := sha256.Sum256(body)
	return string(sum[:])
}

// leave leaves a condition as it is, because the server that knows is busy, and comes back soon.
func (p *pass) leave(condition string) {
	p.wake(busyRetry)
	c := meta.FindStatusCondition(p.stack.Status.Conditions, condition)
	switch {
	case c == nil || c.ObservedGeneration != p.stack.Generation:
		p.failed[condition] = busy{}
		apply.SetStepResult(&p.stack.Status.Conditions, p.stack.Generation, condition, "", p.failed[condition])
	case c.Status != metav1.ConditionTrue && !v1alpha1.Serves(c.Reason):
		p.failed[condition] = &apply.Waiting{Reason: c.Reason, Message: c.Message, After: busyRetry}
	}
}
