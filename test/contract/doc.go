// Package contract holds the REST API to its specification from outside, over HTTP, with all of Atlas behind it: generated requests that look for
// an answer that the specification does not allow, and the examples of docs/api.md.
package contract
