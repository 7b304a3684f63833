package search

import (
	"context"
	"net/http"
)

// Suggest implements Searcher. The scores are constants: nothing depends on how frequent a word is in other collections.
func (s *Elasticsearch) Suggest(ctx context.Context, p Prefix) (Suggestions, error) {
	out := Suggestions{Items: []Suggestion{}}
	p, ok := p.normal()
	if !ok {
		return out, nil
	}
	var answer searchAnswer
	not := []any{}
	if len(p.NotItems) > 0 {
		not = []any{object{"terms": object{"id": p.NotItems}}}
	}
	err := s.call(ctx, http.MethodPost, "/"+s.alias+"/_search", object{
		"query": object{"bool": object{
			"must_not": not,
			"filter": []any{
				object{"terms": object{"collection_id": p.CollectionIDs}},
				object{"match_bool_prefix": object{"title.exact": object{"query": p.Text, "operator": "and"}}},
			},
			"should": object{"constant_score": object{"filter": object{"prefix": object{"title.keyword": object{"value": p.Text, "case_insensitive": true}}}}},
		}},
		"sort": []any{object{"_score": "desc"}, object{"id": "desc"}}, "size": p.Limit, "track_total_hits": false,
		"_source": []string{"id", "collection_id", "title"},
	}, &answer)
	if err == nil {
		err = answer.partial()
	}
	if err == nil {
		err = s.reliable(ctx, answer.index())
	}
	if err != nil {
		return Suggestions{}, err
	}
	for _, hit := range answer.Hits.Hits {
		out.Items = append(out.Items, Suggestion{ItemID: hit.Source.ID, CollectionID: hit.Source.CollectionID, Title: hit.Source.Title})
	}
	return out, nil
}
