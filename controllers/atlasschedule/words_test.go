package atlasschedule

import (
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
)

func TestMistypedSchedulesAreRefusedInWords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	schedule := b.create(nil)
	const aTime, aZone = "want minute, hour, day of the month, month and day of the week, '30 3 * * 1' for example", "want the IANA name of a time zone, Europe/Vienna for example"
	for _, tc := range []struct {
		change func(*platformv1alpha1.AtlasScheduleSpec)
		says   string // "" when it is taken
	}{
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "daily" }, "spec.schedule: Invalid value: \"daily\": " + aTime},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "0 3 * *" }, aTime},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "0 0 3 * * *" }, aTime},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "@every 5m" }, aTime},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "TZ=UTC 0 3 * * *" }, aTime},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "*/5 0-6,22 1 JAN MON-FRI" }, ""},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "@daily" }, ""},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.TimeZone = "+01:00" }, "spec.timeZone: Invalid value: \"+01:00\": " + aZone},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.TimeZone = "Europe Vienna" }, aZone},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.TimeZone = "Local" }, "Local is each machine's own time zone"},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.TimeZone = "America/Argentina/Buenos_Aires" }, ""},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.JobTemplate.Spec.StackRef.Name = "Atlas" }, "stackRef.name is not the name of an AtlasStack"},
		{func(s *platformv1alpha1.AtlasScheduleSpec) { s.JobTemplate.Spec.Reindex.CollectionID = "notes" }, "must be a UUID"},
	} {
		changed := schedule.DeepCopy()
		tc.change(&changed.Spec)
		err := b.client.Update(t.Context(), changed, client.DryRunAll)
		if tc.says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tc.says)
		require.NotContains(t, err.Error(), "should match")
	}
}
