package search

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/postgres/db"
)

const (
	facetTags        = "tags"
	facetCollections = "collections"
)

type esBuckets struct {
	Buckets []struct {
		Key   string `json:"key"`
		Count int64  `json:"doc_count"`
	} `json:"buckets"`
}

// esFacets are the aggregations that count. They see what the query's filters leave, so nothing of another's collection. Each shard names more
// than are asked for, because one shard's most frequent tags need not be the index's.
func esFacets(q Query) object {
	terms := func(field string) object {
		return object{"terms": object{"field": field, "size": MaxFacet, "shard_size": 50 * MaxFacet}}
	}
	facets := object{}
	if q.TagFacet {
		facets[facetTags] = terms("tags")
	}
	if q.CollectionFacet {
		facets[facetCollections] = terms("collection_id")
	}
	return facets
}

func (a *searchAnswer) facets(q Query, page *Page) error {
	empty := q.empty()
	page.Tags, page.Collections = empty.Tags, empty.Collections
	for _, b := range a.Aggregations[facetTags].Buckets {
		page.Tags = append(page.Tags, TagCount{Tag: b.Key, Items: b.Count})
	}
	for _, b := range a.Aggregations[facetCollections].Buckets {
		id, err := uuid.Parse(b.Key)
		if err != nil {
			return fmt.Errorf("read a collection's ID in the index: %w", err)
		}
		page.Collections = append(page.Collections, CollectionCount{CollectionID: id, Items: b.Count})
	}
	return nil
}

func countFacets(ctx context.Context, queries *db.Queries, q Query, text string, filters pgFilters, page *Page) error {
	if !q.TagFacet && !q.CollectionFacet {
		return nil
	}
	rows, err := queries.CountSearchFacets(ctx, db.CountSearchFacetsParams{
		CollectionIds: q.CollectionIDs, Query: text, Tags: filters.tags, NotTags: filters.notTags, Authors: filters.authors,
		NotAuthors: filters.notAuthors, CreatedAfter: filters.after, CreatedBefore: filters.before,
		OfTags: q.TagFacet, OfCollections: q.CollectionFacet, AtMost: MaxFacet,
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.CollectionID != nil {
			page.Collections = append(page.Collections, CollectionCount{CollectionID: *row.CollectionID, Items: row.Items})
		} else {
			page.Tags = append(page.Tags, TagCount{Tag: row.Tag, Items: row.Items})
		}
	}
	return nil
}
