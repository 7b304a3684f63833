// Package crontab understands cron expressions, for the engine of background jobs and for the operator alike.
package crontab

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // the image has no time zones

	cron "github.com/netresearch/go-cron"
)

// Schedule is a cron expression in a time zone.
type Schedule struct {
	ticks cron.Schedule
	zone  *time.Location
	// everyHour says that the hour is a star: what comes each hour also comes in one that the clock shows twice.
	everyHour bool
}

// parser reads five fields. Of the two for days one is enough where both are given, as in cron.
var parser = cron.MustNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom | cron.Descriptor)

// Parse reads an expression of five fields, or a word such as @daily. The time zone is an IANA name; empty means UTC. The error says what is wrong, for
// whoever wrote it.
func Parse(expression, timeZone string) (Schedule, error) {
	if strings.Contains(expression, "=") {
		return Schedule{}, errors.New("the cron expression names a time zone, which has a field of its own")
	}
	if strings.EqualFold(timeZone, "local") {
		return Schedule{}, errors.New("the time zone is each machine's own")
	}
	zone, err := time.LoadLocation(timeZone)
	if err != nil {
		return Schedule{}, fmt.Errorf("the time zone is unknown: %w", err)
	}
	ticks, err := parser.Parse(expression)
	if err != nil {
		return Schedule{}, fmt.Errorf("the cron expression is not valid: %w", err)
	}
	fields := strings.Fields(expression)
	everyHour := expression == "@hourly" || fields[0] == "@every" || len(fields) > 1 && (fields[1] == "*" || fields[1] == "*/1")
	return Schedule{ticks, zone, everyHour}, nil
}

// Next returns the first tick after a moment, false when there is none in the next years. Where clocks are set back, an hour that is named and comes twice
// counts once; where they are set forward, a time that does not come counts as late as if they had not been.
func (s Schedule) Next(after time.Time) (time.Time, bool) {
	if s.everyHour {
		next := s.ticks.Next(after.In(s.zone))
		return next.UTC(), !next.IsZero()
	}
	local := after.In(s.zone)
	_, offset := local.Zone()
	// The ticks of a clock that nobody sets. What it showed in the last hours may still come.
	clock := local.Add(time.Duration(offset) * time.Second).UTC().Add(-longestShift)
	for tick := s.ticks.Next(clock); !tick.IsZero(); tick = s.ticks.Next(tick) {
		if next := s.moment(tick); next.After(after) {
			return next, true
		}
	}
	return time.Time{}, false
}

// longestShift is more than clocks are ever set forward or back for summer.
const longestShift = 3 * time.Hour

// moment is when the zone's clock first shows a time, which is given in UTC, or would show it if it had not been set forward.
func (s Schedule) moment(shown time.Time) time.Time {
	year, month, day := shown.Date()
	some := time.Date(year, month, day, shown.Hour(), shown.Minute(), shown.Second(), 0, s.zone)
	_, before := some.Add(-longestShift).Zone()
	first := shown.Add(-time.Duration(before) * time.Second) // by the clock as it was before it was set, if it was
	_, offset := first.In(s.zone).Zone()
	if comes := some.Hour() == shown.Hour() && some.Minute() == shown.Minute(); comes && offset != before {
		return some.UTC()
	}
	return first
}

// Last returns the last tick in (after, until], false when there is none. The time it takes does not grow with the number of ticks in between.
func (s Schedule) Last(after, until time.Time) (time.Time, bool) {
	// From a short look back to ever longer ones: the first one that finds a tick holds few of them.
	for back := time.Minute; ; back *= 2 {
		from := until.Add(-back)
		if !from.After(after) {
			from = after
		}
		tick, ok := s.Next(from)
		if !ok || tick.After(until) {
			if from.Equal(after) {
				return time.Time{}, false
			}
			continue
		}
		for {
			next, ok := s.Next(tick)
			if !ok || next.After(until) {
				return tick, true
			}
			tick = next
		}
	}
}
