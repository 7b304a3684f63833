//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// fault breaks something, and mends it before it returns. An error says that there was nothing to break.
type fault struct {
	name   string // what is done
	target string // to what
	inject func(r *rand.Rand) error
}

// injector breaks a platform by a plan that follows from a seed.
type injector struct {
	platform *platformBundle
	random   *rand.Rand
	log      func(format string, args ...any)
	// done counts the faults by name and target.
	done map[string]map[string]int
}

func newInjector(p *platformBundle, seed uint64, log func(string, ...any)) *injector {
	return &injector{platform: p, random: rand.New(rand.NewPCG(seed, 1<<32)), log: log, done: map[string]map[string]int{}}
}

// inject breaks the platform count times, with short rests. What could not be done does not count; another fault is drawn for it.
func (i *injector) inject(ctx context.Context, count int) {
	for n, tries := 0, 0; n < count && tries < 2*count+10; tries++ {
		f := i.next()
		i.log("fault %d of %d: %s %s", n+1, count, f.name, f.target)
		if err := f.inject(i.random); err != nil {
			i.log("it was none: %v", err)
			continue
		}
		n++
		if i.done[f.name] == nil {
			i.done[f.name] = map[string]int{}
		}
		i.done[f.name][f.target]++
		if !rest(ctx, between(i.random, 100*time.Millisecond, 1200*time.Millisecond)) {
			return
		}
	}
}

// count is how many faults there were.
func (i *injector) count() (n int) {
	for _, targets := range i.done {
		for _, times := range targets {
			n += times
		}
	}
	return n
}

// next draws a fault. Servers take longest to come back, so they are broken less often.
func (i *injector) next() fault {
	r, n := i.random, i.random.IntN(100)
	switch {
	case n < 45:
		return i.onRole(i.platform.roles[r.IntN(len(i.platform.roles))])
	case n < 53:
		return i.onLeader()
	case n < 70:
		return i.onServer([]string{postgres, kafkaServer, elasticsearch}[r.IntN(3)])
	case n < 74:
		return fault{"end sessions", postgres, func(*rand.Rand) error { return i.endSessions() }}
	default:
		role := i.platform.roles[r.IntN(len(i.platform.roles))]
		return i.onLink(role, []string{postgres, kafkaServer, elasticsearch}[r.IntN(3)])
	}
}

func (i *injector) onRole(p *roleProcess) fault {
	switch n := i.random.IntN(10); {
	case n < 5:
		return fault{"kill -9", p.role, func(r *rand.Rand) error { return killFor(p, between(r, 0, time.Second)) }}
	case n < 7:
		return fault{"restart", p.role, func(*rand.Rand) error {
			took, err := p.stop()
			if took > 25*time.Second {
				i.platform.t.Errorf("%s took %s to stop", p.name, took)
			}
			p.start()
			return err
		}}
	default:
		return fault{"SIGSTOP", p.role, func(r *rand.Rand) error {
			length := between(r, 500*time.Millisecond, 4*time.Second)
			if r.IntN(5) == 0 {
				length = 13 * time.Second // longer than a consumer's session
			}
			return stopFor(p, length)
		}}
	}
}

// onLeader breaks the API whose relay leads.
func (i *injector) onLeader() fault {
	hit := i.random.IntN(2)
	return fault{[]string{"kill -9", "SIGSTOP"}[hit], "relay leader", func(r *rand.Rand) error {
		// Drawn whoever leads: the plan goes on the same.
		down, stopped := between(r, 0, 2*time.Second), between(r, time.Second, 5*time.Second)
		for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); pause(100 * time.Millisecond) {
			for _, p := range i.platform.of("api") {
				switch {
				case !p.leads():
				case hit == 0:
					return killFor(p, down)
				default:
					return stopFor(p, stopped)
				}
			}
		}
		return errors.New("no relay leads")
	}}
}

func killFor(p *roleProcess, length time.Duration) error {
	err := p.kill()
	pause(length)
	p.start()
	return err
}

func stopFor(p *roleProcess, length time.Duration) error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause(length)
	return p.signal(syscall.SIGCONT)
}

func (i *injector) onServer(name string) fault {
	servers := i.platform.servers
	if i.random.IntN(2) == 0 {
		return fault{"SIGSTOP", name, func(r *rand.Rand) error {
			length := between(r, 500*time.Millisecond, 4*time.Second)
			if r.IntN(4) == 0 {
				length += 12 * time.Second
			}
			servers.signal(name, syscall.SIGSTOP)
			pause(length)
			servers.signal(name, syscall.SIGCONT)
			return nil
		}}
	}
	return fault{"kill -9", name, func(r *rand.Rand) error {
		servers.kill(name)
		pause(between(r, 0, 2*time.Second))
		servers.up()
		return nil
	}}
}

// onLink cuts one process off from one server; all processes off from Kafka, whose address is one.
func (i *injector) onLink(p *roleProcess, server string) fault {
	link, target := p.links[server], p.role+" from "+server
	if server == kafkaServer {
		target = "all from kafka"
	}
	switch i.random.IntN(3) {
	case 0:
		return fault{"partition", target, func(r *rand.Rand) error {
			length := between(r, time.Second, 5*time.Second)
			if r.IntN(4) == 0 {
				length += 12 * time.Second
			}
			link.partition()
			pause(length)
			link.heal()
			return nil
		}}
	case 1:
		return fault{"reset connections", target, func(r *rand.Rand) error {
			link.reset()
			pause(between(r, 0, 3*time.Second))
			link.accept()
			return nil
		}}
	default:
		return fault{"slow network", target, func(r *rand.Rand) error {
			link.slow()
			pause(between(r, time.Second, 5*time.Second))
			link.heal()
			return nil
		}}
	}
}

// endSessions ends most of PostgreSQL's sessions, in the middle of whatever they do.
func (i *injector) endSessions() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	admin, err := pgx.Connect(ctx, i.platform.servers.DatabaseURL)
	if err != nil {
		return fmt.Errorf("connect to end sessions: %w", err)
	}
	defer admin.Close(ctx) //nolint:errcheck // nothing is pending
	ended, err := admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'faults%' AND random() < 0.6")
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	if ended.RowsAffected() == 0 {
		return errors.New("there was no session to end")
	}
	return nil
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

// pause is the length of a fault.
func pause(d time.Duration) { rest(context.Background(), d) }

// rest waits; it returns false when ctx ended before.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// table is what was done, in Markdown.
func (i *injector) table() string {
	names := []string{"kill -9", "SIGSTOP", "restart", "partition", "reset connections", "slow network", "end sessions"}
	out := "| fault | target | times |\n|---|---|---|\n"
	for _, name := range names {
		for _, target := range sortedKeys(i.done[name]) {
			out += fmt.Sprintf("| %s | %s | %d |\n", name, target, i.done[name][target])
		}
	}
	return out + fmt.Sprintf("| | all | %d |\n", i.count())
}
