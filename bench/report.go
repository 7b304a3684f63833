package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
)

// report prints one line per figure, as a Markdown table.
type report struct {
	out    io.Writer
	notes  []string
	missed int
}

func (r *report) begin(o options) {
	fmt.Fprintf(r.out, "%d processors, %s, medians of %d rounds of %s, %d connections\n\n", runtime.NumCPU(), runtime.Version(), o.rounds, o.length, o.connections)
	fmt.Fprintln(r.out, "| | Atlas | p99 | beside | | p99 | ratio | wanted |")
	fmt.Fprintln(r.out, "|---|---|---|---|---|---|---|---|")
}

// compare measures Atlas, and beside it at most one other; the ratio of their rates is wanted to be at least so much.
func (r *report) compare(ctx context.Context, o options, wanted float64, contenders ...contender) error {
	measured, err := compare(ctx, o, o.connections, contenders...)
	if err != nil {
		return err
	}
	own := measured[0]
	if len(contenders) == 1 {
		fmt.Fprintf(r.out, "| %s | %.0f/s | %.1f ms | | | | | |\n", contenders[0].name, own.perSecond, ms(own.p99))
		return nil
	}
	against := measured[1]
	ratio := own.perSecond / against.perSecond
	fmt.Fprintf(r.out, "| %s | %.0f/s | %.1f ms | %s | %.0f/s | %.1f ms | %.2f | ≥ %.2f%s |\n", contenders[0].name, own.perSecond, ms(own.p99),
		contenders[1].name, against.perSecond, ms(against.p99), ratio, wanted, r.verdict(ratio >= wanted))
	return nil
}

// ratio reports two rates without latencies.
func (r *report) ratio(name, beside string, own, against, wanted float64) {
	ratio := own / against
	fmt.Fprintf(r.out, "| %s | %.0f/s | | %s | %.0f/s | | %.2f | ≥ %.2f%s |\n", name, own, beside, against, ratio, wanted, r.verdict(ratio >= wanted))
}

// limit reports a figure that has a bound.
func (r *report) limit(name, figure string, holds bool, wanted string) {
	fmt.Fprintf(r.out, "| %s | %s | | | | | | %s%s |\n", name, figure, wanted, r.verdict(holds))
}

func (r *report) verdict(holds bool) string {
	if holds {
		return ""
	}
	r.missed++
	return " (missed)"
}

func (r *report) note(text string) { r.notes = append(r.notes, text) }

// end prints the notes, and fails when a figure missed what is wanted.
func (r *report) end() error {
	fmt.Fprintln(r.out)
	for _, note := range r.notes {
		fmt.Fprintln(r.out, "-", note)
	}
	if r.missed > 0 {
		return errors.New("figures missed what is wanted; other work on the machine is the first suspect")
	}
	return nil
}
