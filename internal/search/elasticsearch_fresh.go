package search

import (
	"context"
	"net/http"

	"github.com/google/uuid"
)

// Fresh implements Searcher. A search, unlike a read of the document, sees what the last refresh made visible.
func (s *Elasticsearch) Fresh(ctx context.Context, writes []Write) (Freshness, error) {
	out := Freshness{Found: make([]bool, len(writes))}
	var ids []uuid.UUID
	asked := make(map[uuid.UUID]bool)
	for _, w := range writes {
		if w.Indexed >= w.Version && !asked[w.ItemID] {
			asked[w.ItemID], ids = true, append(ids, w.ItemID)
		}
	}
	if len(ids) == 0 {
		return out, nil
	}
	var answer struct {
		searchAnswer
		Hits struct {
			Hits []struct {
				ID      uuid.UUID `json:"_id"`
				Version int64     `json:"_version"`
			} `json:"hits"`
		} `json:"hits"`
	}
	err := s.call(ctx, http.MethodPost, "/"+s.alias+"/_search?preference="+freshPreference, object{
		"query": object{"ids": object{"values": ids}}, "size": len(ids), "sort": []string{"_doc"}, "_source": false, "version": true,
		"track_total_hits": false,
	}, &answer)
	if err == nil {
		err = answer.partial()
	}
	if err != nil {
		return Freshness{}, err
	}
	visible := make(map[uuid.UUID]int64, len(ids))
	for _, hit := range answer.Hits.Hits {
		visible[hit.ID] = hit.Version
	}
	for i, w := range writes {
		if w.Indexed < w.Version {
			continue
		}
		version, there := visible[w.ItemID]
		out.Found[i] = (there && version >= w.Version) || (!there && w.Deleted)
	}
	return out, nil
}
