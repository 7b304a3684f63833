package process

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Console reports steps: a line with name and time when one ends, and a sign of life every ten seconds until then.
// Steps may run at the same time. A nil Console is silent.
type Console struct {
	mu    sync.Mutex
	out   io.Writer
	every time.Duration
}

// NewConsole reports to out.
func NewConsole(out io.Writer) *Console {
	return &Console{out: out, every: 10 * time.Second}
}

// Step runs fn and reports it.
func (c *Console) Step(ctx context.Context, name string, fn func(context.Context, *Progress) error) error {
	p := &Progress{}
	start := time.Now()
	done := make(chan struct{})
	var reporter sync.WaitGroup
	if c != nil {
		reporter.Go(func() { c.report(name, p, start, done) })
	}
	err := fn(ctx, p)
	close(done)
	reporter.Wait()
	outcome := p.outcome()
	if err != nil {
		outcome = "failed"
	}
	c.Printf("==> %s %s  %s\n", name, outcome, seconds(time.Since(start)))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (c *Console) report(name string, p *Progress, start time.Time, done <-chan struct{}) {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			c.Printf("    %s: %s  %s\n", name, p.text(), seconds(time.Since(start)))
		}
	}
}

// Printf writes one line of text.
func (c *Console) Printf(format string, args ...any) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.out, format, args...) // a step doesn't fail because nobody listens
}

// Progress says what a running step is doing. A nil Progress ignores everything.
type Progress struct {
	mu   sync.Mutex
	now  string
	last string
}

// Set says what is being done now, such as "downloading".
func (p *Progress) Set(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = fmt.Sprintf(format, args...)
}

// Outcome replaces the word "ready" in the step's last line, for example by "already running".
func (p *Progress) Outcome(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = fmt.Sprintf(format, args...)
}

func (p *Progress) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == "" {
		return "working"
	}
	return p.now
}

func (p *Progress) outcome() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == "" {
		return "ready"
	}
	return p.last
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
