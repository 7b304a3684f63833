package crontab_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/crontab"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return moment
}

func TestWhatCannotBeUnderstood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expression, zone, says string }{
		{"61 * * * *", "", "not valid"},
		{"* * * *", "", "not valid"},
		{"* * * * * *", "", "not valid"},
		{"TZ=UTC * * * * *", "", "field of its own"},
		{"* * * * *", "Europe/Atlantis", "unknown"},
		{"* * * * *", "Local", "each machine's own"},
	} {
		_, err := crontab.Parse(c.expression, c.zone)
		require.ErrorContains(t, err, c.says, c.expression)
	}
	schedule, err := crontab.Parse("0 0 30 2 *", "")
	if err == nil { // else it is refused at once, which is as good
		_, ok := schedule.Next(time.Now())
		require.False(t, ok)
		_, ok = schedule.Last(time.Now().AddDate(-1, 0, 0), time.Now())
		require.False(t, ok)
	}
}

func TestNextAcrossChangesOfTheClock(t *testing.T) {
	t.Parallel()
	schedule, err := crontab.Parse("30 2 * * *", "Europe/Vienna")
	require.NoError(t, err)
	for after, want := range map[string]string{
		"2026-01-10T00:00:00Z": "2026-01-10T01:30:00Z",
		"2026-10-25T00:00:00Z": "2026-10-25T00:30:00Z", // 02:30 comes twice
		"2026-10-25T00:30:00Z": "2026-10-26T01:30:00Z", // and counts once
	} {
		next, ok := schedule.Next(at(t, after))
		require.True(t, ok)
		require.Equal(t, want, next.Format(time.RFC3339), after)
	}
	hourly, err := crontab.Parse("30 * * * *", "Europe/Vienna")
	require.NoError(t, err)
	next, _ := hourly.Next(at(t, "2026-10-25T00:30:00Z"))
	require.Equal(t, "2026-10-25T01:30:00Z", next.Format(time.RFC3339), "each hour is each hour")
	for expression, want := range map[string]string{"30 */2 * * *": "2026-10-25T03:30:00Z", "30 */1 * * *": "2026-10-25T01:30:00Z"} {
		every, err := crontab.Parse(expression, "Europe/Vienna")
		require.NoError(t, err)
		next, _ := every.Next(at(t, "2026-10-25T00:30:00Z"))
		require.Equal(t, want, next.Format(time.RFC3339), expression)
	}
	next, ok := schedule.Next(at(t, "2026-03-29T00:00:00Z")) // 02:30 does not come
	require.True(t, ok)
	require.Equal(t, "2026-03-29T01:30:00Z", next.Format(time.RFC3339))
}

// TestBothDaysAreGiven: one of them is enough, unless the other is a star.
func TestBothDaysAreGiven(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"0 3 1 * 1":   "2026-01-26", // a Monday
		"0 3 23 * 1":  "2026-01-23",
		"0 3 1 * *":   "2026-02-01",
		"0 3 * * 1":   "2026-01-26",
		"0 3 1-7 3 0": "2026-03-01",
	} {
		schedule, err := crontab.Parse(expression, "")
		require.NoError(t, err)
		next, ok := schedule.Next(at(t, "2026-01-22T12:00:00Z"))
		require.True(t, ok)
		require.Equal(t, want+"T03:00:00Z", next.Format(time.RFC3339), expression)
	}
}

// TestMidnightsThatDoNotComeOrComeTwice are those of zones that set their clocks then. No day and no week is left out.
func TestMidnightsThatDoNotComeOrComeTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, forward string }{
		{"Africa/Cairo", "2026-04-24"},
		{"America/Santiago", "2026-09-06"},
		{"Asia/Beirut", "2026-03-29"},
		{"Atlantic/Azores", "2026-03-29"},
		{"America/Havana", "2026-03-08"},
		{"Australia/Lord_Howe", "2026-10-04"},
		{"Europe/Vienna", "2026-03-29"},
		{"America/New_York", "2026-03-08"},
		{"UTC", ""},
	} {
		zone, err := time.LoadLocation(c.zone)
		require.NoError(t, err)
		for expression, perDay := range map[string]int{"@daily": 1, "0 0 * * *": 1, "30 0 * * *": 1, "30 2 * * *": 1, "0 1 * * *": 1, "15 23 * * *": 1, "0 0,12 * * *": 2} {
			schedule, err := crontab.Parse(expression, c.zone)
			require.NoError(t, err)
			days := map[string]int{}
			at := time.Date(2025, 12, 31, 23, 59, 59, 0, zone)
			for {
				next, ok := schedule.Next(at)
				require.True(t, ok)
				require.True(t, next.After(at))
				at = next
				if next.In(zone).Year() == 2027 {
					break
				}
				days[next.In(zone).Format(time.DateOnly)]++
			}
			require.Len(t, days, 365, "%s in %s", expression, c.zone)
			for day, n := range days {
				require.Equal(t, perDay, n, "%s in %s on %s", expression, c.zone, day)
			}
		}
		weekly, err := crontab.Parse("@weekly", c.zone)
		require.NoError(t, err)
		first, _ := weekly.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, zone))
		sunday, err := time.Parse(time.DateOnly, first.In(zone).Format(time.DateOnly)) // in UTC, where each day has a midnight
		require.NoError(t, err)
		for at, n := first, 1; n < 50; n++ {
			at, _ = weekly.Next(at)
			require.Equal(t, sunday.AddDate(0, 0, 7*n).Format(time.DateOnly), at.In(zone).Format(time.DateOnly), c.zone)
		}
		if c.forward == "" {
			continue
		}
		day, err := time.ParseInLocation(time.DateOnly, c.forward, zone)
		require.NoError(t, err)
		every, err := crontab.Parse("*/10 0-3 * * *", c.zone)
		require.NoError(t, err)
		var last time.Time
		for at, ok := every.Next(day.Add(-time.Hour)); ok && at.Before(day.Add(8*time.Hour)); at, ok = every.Next(at) {
			require.True(t, at.After(last))
			last = at
		}
		require.False(t, last.IsZero())
	}
}

func TestLast(t *testing.T) {
	t.Parallel()
	for _, expression := range []string{"* * * * *", "*/7 * * * *", "0 3 * * 1-5", "@monthly", "* 0-4 * * *"} {
		schedule, err := crontab.Parse(expression, "America/New_York")
		require.NoError(t, err)
		until := at(t, "2026-03-20T12:34:56Z")
		for _, days := range []int{0, 1, 3, 45, 800} {
			after := until.AddDate(0, 0, -days)
			var want time.Time
			for tick, ok := schedule.Next(until.Add(-min(until.Sub(after), 40*24*time.Hour))); ok && !tick.After(until); tick, ok = schedule.Next(tick) {
				want = tick
			}
			got, found := schedule.Last(after, until)
			require.Equal(t, !want.IsZero(), found, "%s %d", expression, days)
			require.Equal(t, want, got, "%s %d", expression, days)
		}
	}
	// A tick is in the interval's end, and not in its beginning.
	schedule, err := crontab.Parse("0 * * * *", "")
	require.NoError(t, err)
	tick := at(t, "2026-03-20T12:00:00Z")
	got, found := schedule.Last(tick.Add(-time.Minute), tick)
	require.True(t, found)
	require.Equal(t, tick, got)
	_, found = schedule.Last(tick, tick.Add(time.Minute))
	require.False(t, found)
}
