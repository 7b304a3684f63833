// Package tasks holds the kinds of background jobs, one a file.
package tasks

import (
	"log/slog"

	"github.com/elastic/go-elasticsearch/v8"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-platform/atlas/internal/enrich"
	"github.com/atlas-platform/atlas/internal/indexing"
	"github.com/atlas-platform/atlas/internal/indexing/rebuild"
	"github.com/atlas-platform/atlas/internal/jobs"
	"github.com/atlas-platform/atlas/internal/objects"
)

// Deps are what the kinds use.
type Deps struct {
	Logger *slog.Logger
	Pool   *pgxpool.Pool
	// Elasticsearch is nil where search is PostgreSQL's, which needs no reindexing.
	Elasticsearch *elasticsearch.Client
	// Alias is the search index's.
	Alias string
	// Objects is where files are; nil where there is no object store.
	Objects objects.Store
	// Registerer may be nil.
	Registerer prometheus.Registerer
	// Fetcher gets web pages.
	Fetcher enrich.Fetcher
}

// All are the kinds of jobs. A constructor keeps what it is given and does nothing else: see Kinds.
func All(d Deps) []jobs.Task {
	items, whole := indexing.NewRecorder(d.Pool), (*rebuild.Rebuilder)(nil)
	if d.Elasticsearch != nil {
		items = indexing.New(d.Pool, d.Elasticsearch, d.Alias)
		whole = rebuild.New(rebuild.Config{Alias: d.Alias}, rebuild.Deps{
			Logger: d.Logger, Pool: d.Pool, Elasticsearch: d.Elasticsearch, Metrics: rebuild.NewMetrics(d.Registerer),
		})
	}
	return []jobs.Task{
		newPurge(d.Pool), newReindex(d.Pool, items, whole), newEnrich(enrich.New(d.Logger, d.Pool, d.Fetcher)), newExport(d.Pool, d.Objects),
		newImport(d.Pool, d.Objects), newAuditVerify(d.Pool), newConsistencyCheck(d.Pool, d.Elasticsearch, d.Alias),
	}
}

// Kinds describes the kinds of jobs to those who don't run them.
func Kinds() []jobs.Kind {
	all := All(Deps{})
	kinds := make([]jobs.Kind, len(all))
	for i, task := range all {
		kinds[i] = task.Kind()
	}
	return kinds
}
