package elastic

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// The scripted similarities are BM25 without what it takes from the whole index: how many documents have a word, and how long they are on average.
// Scores would tell a caller about items that are not theirs (docs/decisions/0014).
//
//go:embed index/items.json
var indexFiles embed.FS

// Params are the parts of the index definition that an installation chooses.
type Params struct {
	// Shards is the number of primary shards of a new index; 0 means 1.
	Shards int
	// Language is the language of the items, one of Languages; "" means English.
	Language string
	// Replicas is the number of copies of each shard.
	Replicas int
	// RefreshInterval is how long a write may stay invisible to search; 0 means one second.
	RefreshInterval time.Duration
}

// IndexDefinition is what an index of items looks like: the embedded mapping and analysis together with Params.
type IndexDefinition struct {
	// Hash names the mapping, the analysis and the number of shards: what an existing index can't change.
	// Replicas and the refresh interval are not part of it, because they are changed in place.
	Hash string
	// Settings are the index settings by their full names, as Elasticsearch's flat_settings shows them: strings, or lists of strings.
	Settings map[string]any
	// Mappings is the mapping, with the hash under _meta.definition_hash.
	Mappings map[string]any
}

// The settings of a live index that may be changed in place.
const (
	settingShards   = "index.number_of_shards"
	settingReplicas = "index.number_of_replicas"
	settingRefresh  = "index.refresh_interval"
	settingDeletes  = "index.gc_deletes"
)

// deletesLifetime is how long an index remembers the version of a document that was deleted: longer than a write can be on its way.
const deletesLifetime = "1h"

// Definition returns the definition of the index of items.
func Definition(p Params) (IndexDefinition, error) {
	raw, err := indexFiles.ReadFile("index/items.json")
	if err != nil {
		return IndexDefinition{}, fmt.Errorf("read the index definition: %w", err)
	}
	var def struct {
		Settings map[string]any `json:"settings"`
		Mappings map[string]any `json:"mappings"`
	}
	if err := json.Unmarshal(raw, &def); err != nil {
		return IndexDefinition{}, fmt.Errorf("decode the index definition: %w", err)
	}
	if err := setLanguage(def.Settings, p.Language); err != nil {
		return IndexDefinition{}, err
	}
	def.Settings[settingShards] = strconv.Itoa(max(p.Shards, 1))

	// json.Marshal sorts the keys of maps, so equal definitions have equal bytes.
	fixed := maps.Clone(def.Settings)
	delete(fixed, settingDeletes)
	canonical, err := json.Marshal([]any{fixed, def.Mappings})
	if err != nil {
		return IndexDefinition{}, fmt.Errorf("encode the index definition: %w", err)
	}
	sum := sha256.Sum256(canonical)
	hash := hex.EncodeToString(sum[:])

	refresh := p.RefreshInterval
	if refresh == 0 {
		refresh = time.Second
	}
	def.Settings[settingReplicas] = strconv.Itoa(p.Replicas)
	def.Settings[settingRefresh] = strconv.FormatInt(refresh.Milliseconds(), 10) + "ms"
	def.Mappings["_meta"] = map[string]any{"definition_hash": hash}
	return IndexDefinition{Hash: hash, Settings: def.Settings, Mappings: def.Mappings}, nil
}

// TemplateName is the name of the index template for the alias.
func TemplateName(alias string) string { return alias + "-template" }

// IndexPattern matches the names that IndexName gives for the alias.
func IndexPattern(alias string) string { return alias + "-*-*" }

// indexTime is how an index's name tells when it was created.
const indexTime = "20060102150405"

// IndexName is the name of an index of this definition created at now: <alias>-<hash8>-<yyyymmddhhmmss>.
func (d IndexDefinition) IndexName(alias string, now time.Time) string {
	return alias + "-" + d.Hash[:8] + "-" + now.UTC().Format(indexTime)
}

// isIndexOf reports whether IndexName named the index for the alias. The pattern alone would also match indices of an
// alias that extends this one.
func isIndexOf(alias, name string) bool {
	rest, found := strings.CutPrefix(name, alias+"-")
	hash, created, cut := strings.Cut(rest, "-")
	if !found || !cut || len(hash) != 8 || strings.Trim(hash, "0123456789abcdef") != "" {
		return false
	}
	_, err := time.Parse(indexTime, created)
	return err == nil
}

// Template is the body of the index template for the alias.
func (d IndexDefinition) Template(alias string) map[string]any {
	return map[string]any{
		// The alias's own name too: while it leads nowhere, nothing that is written to it may make an index of its name.
		"index_patterns": []any{IndexPattern(alias), alias},
		// Two templates whose patterns overlap may not have the same priority. The pattern of an alias overlaps
		// only with those of aliases that extend it, which are longer and have to win.
		"priority": 500 + len(alias),
		// Writing to an index that is gone, or under the alias of one that was being built, must not make another: a versioned delete would.
		"allow_auto_create": false,
		"template":          map[string]any{"settings": d.Settings, "mappings": d.Mappings},
		"_meta":             map[string]any{"managed_by": "atlas", "definition_hash": d.Hash},
	}
}
