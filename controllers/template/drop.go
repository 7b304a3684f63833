package template

import (
	"context"
	"errors"
	"net/http"

	"github.com/atlas-platform/atlas/internal/elastic"
)

func (a *elasticAdmin) ClusterUUID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	uuid, err := elastic.ClusterUUID(ctx, a.es)
	var answer *elastic.IndexAPIError
	if errors.As(err, &answer) && answer.Status == http.StatusForbidden {
		return "", nil // it takes the permission monitor, which nothing else here needs
	}
	if err != nil {
		return "", a.classify(err)
	}
	return uuid, nil
}

func (a *elasticAdmin) Drop(ctx context.Context, alias string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := elastic.DropAlias(ctx, a.es, alias); err != nil {
		return a.classify(err)
	}
	return nil
}
