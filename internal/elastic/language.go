package elastic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// English is the language that an index has unless another one is asked for.
const English = "english"

// languages are the token filters of each language, English apart: what makes one of the forms of a word. They are Lucene's, as
// Elasticsearch's own language analyzers have them, without stop words and with the light stemmer where there is one. Where accents matter little they are
// folded, as in English, so that a word is found however it is typed.
var languages = map[string][]string{
	English:      nil, // as the file has it
	"none":       {"lowercase", "asciifolding"},
	"arabic":     {"lowercase", "decimal_digit", "arabic_normalization", "stemmer:arabic"},
	"danish":     {"lowercase", "stemmer:danish", "asciifolding"},
	"dutch":      {"lowercase", "asciifolding", "stemmer:dutch"},
	"finnish":    {"lowercase", "stemmer:light_finnish", "asciifolding"},
	"french":     {"elision:french", "lowercase", "asciifolding", "stemmer:light_french"},
	"german":     {"lowercase", "german_normalization", "stemmer:light_german", "asciifolding"},
	"hungarian":  {"lowercase", "stemmer:light_hungarian", "asciifolding"},
	"italian":    {"elision:italian", "lowercase", "asciifolding", "stemmer:light_italian"},
	"norwegian":  {"lowercase", "stemmer:norwegian", "asciifolding"},
	"portuguese": {"lowercase", "stemmer:light_portuguese", "asciifolding"},
	"romanian":   {"lowercase", "stemmer:romanian", "asciifolding"},
	"russian":    {"lowercase", "stemmer:russian"},
	"spanish":    {"lowercase", "asciifolding", "stemmer:light_spanish"},
	"swedish":    {"lowercase", "stemmer:swedish", "asciifolding"},
	"turkish":    {"apostrophe", "lowercase:turkish", "stemmer:turkish"},
}

// elisions are the articles that a language joins to words.
var elisions = map[string][]any{
	"french":  {"l", "m", "t", "qu", "n", "s", "j", "d", "c", "jusqu", "quoiqu", "lorsqu", "puisqu"},
	"italian": {"c", "l", "all", "dall", "dell", "nell", "sull", "coll", "pell", "gl", "agl", "dagl", "degl", "negl", "sugl", "un", "m", "t", "s", "v", "d"},
}

// Languages are the languages that an index can have.
func Languages() []string {
	return slices.Sorted(maps.Keys(languages))
}

// setLanguage puts the filters of another language than English in place of the English ones.
func setLanguage(settings map[string]any, language string) error {
	if language == "" || language == English {
		return nil
	}
	filters, known := languages[language]
	if !known {
		return fmt.Errorf("the index can't have the language %q: want one of %s", language, strings.Join(Languages(), ", "))
	}
	const prefix = "index.analysis.filter."
	maps.DeleteFunc(settings, func(key string, _ any) bool { return strings.HasPrefix(key, prefix+"atlas_english") })
	names := make([]any, 0, len(filters))
	for _, filter := range filters {
		kind, of, special := strings.Cut(filter, ":")
		if !special {
			names = append(names, kind)
			continue
		}
		name := "atlas_" + kind
		settings[prefix+name+".type"] = kind
		if kind == "elision" {
			settings[prefix+name+".articles"], settings[prefix+name+".articles_case"] = elisions[of], "true"
		} else {
			settings[prefix+name+".language"] = of
		}
		names = append(names, name)
	}
	settings["index.analysis.analyzer.atlas_text.filter"] = names
	return nil
}
