package janitor

import (
	"context"
	"errors"
	"time"

	"github.com/atlas-platform/atlas/internal/objects"
)

const (
	// unfinishedLifetime is more than a file takes to be written.
	unfinishedLifetime = 24 * time.Hour
	// storeTimeout is how long the object store may take for one kind of files. What is left then waits for the next round.
	storeTimeout = 5 * time.Minute
)

// files removes what has been in a folder of the object store for long enough.
func (r *round) files(kind, folder string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if r.store == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		for info, err := range r.store.List(ctx, folder) {
			if err != nil {
				return err
			}
			if !info.Modified.Before(r.ago(r.cfg.Files)) {
				continue
			}
			switch again, err := r.store.Stat(ctx, info.Name); {
			case errors.Is(err, objects.ErrNotFound) || (err == nil && again.ETag != info.ETag):
				continue // it was removed or replaced since it was listed
			case err != nil:
				return err
			}
			if err := r.store.Delete(ctx, info.Name); err != nil {
				return err
			}
			r.add(kind, 1)
		}
		return nil
	}
}

func (r *round) unfinishedFiles(ctx context.Context) error {
	if r.store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	dropped, err := r.store.DropUnfinished(ctx, r.ago(unfinishedLifetime))
	r.add("unfinished_files", dropped)
	return err
}
