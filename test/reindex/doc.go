// Package reindex rebuilds the search index of a whole Atlas under load, with processes that are killed, and looks at every answer of search.
package reindex
