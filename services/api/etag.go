package api

import (
	"strconv"
	"strings"
)

// etag is the strong validator of a version.
func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// versionOf is the tag without what compression has added to it: whoever has a compressed representation has that version.
func versionOf(tag string) string {
	for _, suffix := range []string{gzipSuffix, zstdSuffix} {
		if version, ok := strings.CutSuffix(tag, suffix+`"`); ok {
			return version + `"`
		}
	}
	return tag
}

// ifMatch reports whether an If-Match header (RFC 9110, 13.1.1) lets a change of this version go on. It compares strongly: a weak tag never
// matches.
func ifMatch(header *string, version int64) bool {
	return header == nil || anyTag(*header, func(tag string) bool { return versionOf(tag) == etag(version) })
}

// ifNoneMatch reports whether an If-None-Match header (RFC 9110, 13.1.2) says that the caller has this version. It compares weakly: caches may
// have weakened the tag.
func ifNoneMatch(header *string, version int64) bool {
	return header != nil && matchesTag(*header, etag(version))
}

func matchesTag(header, wanted string) bool {
	return anyTag(header, func(tag string) bool { return versionOf(strings.TrimPrefix(tag, "W/")) == wanted })
}

// anyTag walks a list of tags. Versions have no commas, so splitting at them can't make a tag match that is not there.
func anyTag(header string, matches func(tag string) bool) bool {
	for tag := range strings.SplitSeq(header, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || matches(tag) {
			return true
		}
	}
	return false
}
