package search

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"

	"github.com/atlas-platform/atlas/internal/elastic"
)

// Behind makes the searcher believe no index but those that the gate knows to have the items. Another one may be behind the alias for seconds: the
// operator makes an empty one in place of one that was lost, or somebody leads the alias elsewhere.
func (s *Elasticsearch) Behind(gate *Gate) *Elasticsearch {
	s.gate = gate
	return s
}

// reliable fails when the index that answered is none that has the items. Hits tell its name, which costs nothing; where nothing was found, and where
// the name is new, Elasticsearch is asked which index is behind the alias.
func (s *Elasticsearch) reliable(ctx context.Context, index string) error {
	if s.gate == nil || index != "" && s.gate.knows(index) {
		return nil
	}
	behind, err := ownIndex(ctx, s.es, s.alias)
	if err != nil {
		return err
	}
	if !s.gate.filled(ctx, behind.UUID) {
		return fmt.Errorf("%w: the index %s is not known to have the items", ErrUnavailable, behind.Name)
	}
	return nil
}

// blame finds out whose fault an answer is that is none: an index that is somebody else's refuses what Atlas's own takes.
func (s *Elasticsearch) blame(ctx context.Context, path string, failure *statusError) error {
	if failure.status != http.StatusBadRequest || !strings.HasPrefix(path, "/"+s.alias+"/") {
		return failure
	}
	if _, err := ownIndex(ctx, s.es, s.alias); err != nil {
		return fmt.Errorf("%w: %s", err, failure.Error())
	}
	return failure
}

// ownIndex is the index behind the alias. It fails with ErrUnavailable where that is not one of Atlas's own.
func ownIndex(ctx context.Context, es elastictransport.Interface, alias string) (elastic.IndexID, error) {
	index, there, err := elastic.OwnBehindAlias(ctx, es, alias)
	switch {
	case err != nil:
		return index, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !there:
		return index, fmt.Errorf("%w: the alias %s leads to no index of its own", ErrUnavailable, alias)
	}
	return index, nil
}
