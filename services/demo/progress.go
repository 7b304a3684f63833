package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress draws a bar on a terminal, and prints a line every tenth of the way elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
	unit     string
	total    int
	start    time.Time

	mu    sync.Mutex
	count int
	drawn time.Time
	tenth int
}

func newProgress(out io.Writer, terminal bool, unit string, total int) *progress {
	return &progress{out: out, terminal: terminal, unit: unit, total: total, start: time.Now()}
}

func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count += n
	if p.terminal {
		if now := time.Now(); now.Sub(p.drawn) > 100*time.Millisecond || p.count == p.total {
			p.drawn = now
			p.draw("\r")
		}
		return
	}
	if tenth := p.count * 10 / p.total; tenth > p.tenth {
		p.tenth = tenth
		p.draw("")
		fmt.Fprintln(p.out)
	}
}

func (p *progress) draw(prefix string) {
	const width = 30
	filled := p.count * width / p.total
	rate := float64(p.count) / time.Since(p.start).Seconds()
	fmt.Fprintf(p.out, "%s  [%s%s] %3d%%  %d/%d %s  %.0f/s ", prefix, strings.Repeat("#", filled), strings.Repeat(".", width-filled),
		p.count*100/p.total, p.count, p.total, p.unit, rate)
}

func (p *progress) done() {
	if p.terminal {
		fmt.Fprintln(p.out)
	}
}
