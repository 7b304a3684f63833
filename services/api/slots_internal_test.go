package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ada, ed, eve := uuid.New(), uuid.New(), uuid.New()
		s := newSlots(3, 2)
		ctx := t.Context()
		require.NoError(t, s.enter(ctx, ada))
		require.NoError(t, s.enter(ctx, ada))
		own, all := s.try(ada)
		require.True(t, own)
		require.False(t, all)
		require.NoError(t, s.enter(ctx, ed))
		own, all = s.try(eve)
		require.False(t, own)
		require.True(t, all)

		start := time.Now()
		var refused *problem
		require.ErrorAs(t, s.enter(ctx, eve), &refused)
		require.Equal(t, 503, refused.status)
		require.Equal(t, slotPatience, time.Since(start))
		gone, hangUp := context.WithCancel(ctx)
		hangUp()
		require.ErrorIs(t, s.enter(gone, eve), context.Canceled)

		entered := make(chan error, 1)
		go func() { entered <- s.enter(ctx, eve) }()
		synctest.Wait()
		s.leave(ada)
		require.NoError(t, <-entered)
		s.leave(eve)
		s.leave(ed)
		s.leave(ada)
		require.Empty(t, s.users)
		require.Zero(t, s.taken)
	})
}
