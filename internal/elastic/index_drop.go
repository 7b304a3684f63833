package elastic

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
)

// ClusterUUID is the identity that the Elasticsearch gives itself.
func ClusterUUID(ctx context.Context, es elastictransport.Interface) (string, error) {
	var answer struct {
		UUID string `json:"cluster_uuid"`
	}
	if err := indexCall(ctx, es, http.MethodGet, "/", nil, &answer); err != nil {
		return "", fmt.Errorf("ask for the identity of the cluster: %w", err)
	}
	return answer.UUID, nil
}

// DropAlias deletes every index that is named for the alias, one that is being built too, and takes the alias away from any other, which is somebody else's and stays, as
// one does that has the alias's name. The index template goes last: it is what keeps a late write from making an index of that name.
func DropAlias(ctx context.Context, es elastictransport.Interface, alias string) error {
	names, foreign := map[string]bool{}, []any{}
	for _, path := range []string{"/" + alias, "/" + IndexPattern(alias)} {
		var found map[string]struct {
			Aliases map[string]struct{} `json:"aliases"`
		}
		err := indexCall(ctx, es, http.MethodGet, path+"?filter_path=*.settings.index.uuid,*.aliases", nil, &found)
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("look for indices of the alias: %w", err)
		}
		for name, index := range found {
			if isIndexOf(alias, name) {
				names[name] = true
			} else if _, behind := index.Aliases[alias]; behind {
				foreign = append(foreign, map[string]any{"remove": map[string]any{"index": name, "alias": alias, "must_exist": false}})
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := indexCall(ctx, es, http.MethodDelete, "/"+name, nil, nil); err != nil && !isNotFound(err) {
			return fmt.Errorf("delete the index %s: %w", name, err)
		}
	}
	if len(foreign) > 0 {
		err := indexCall(ctx, es, http.MethodPost, "/_aliases", map[string]any{"actions": foreign}, nil)
		if err != nil && !isNotFound(err) {
			return fmt.Errorf("take the alias %s away from indices that are not its own: %w", alias, err)
		}
	}
	err := indexCall(ctx, es, http.MethodDelete, "/_index_template/"+TemplateName(alias), nil, nil)
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("delete the index template %s: %w", TemplateName(alias), err)
	}
	return nil
}
