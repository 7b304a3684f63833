//go:build linux

package faults

import (
	"slices"
	"strings"

	"github.com/atlas-platform/atlas/internal/event"
)

// outcome is what a client knows about a write.
type outcome int

const (
	unanswered outcome = iota // no answer, or a 5xx: it may have happened, or may yet
	acknowledged
	refused
)

// belief is what a client may believe of a value: what the last acknowledged write made it or, as such a write may come late, what any write without
// an answer would have made it.
type belief[V comparable] struct {
	last    V
	perhaps []V
}

func believe[V comparable](value V) belief[V] { return belief[V]{last: value} }

// learn is what follows from a write that was to make it value.
func (b *belief[V]) learn(o outcome, value V) {
	switch o {
	case acknowledged:
		b.last = value
	case unanswered:
		b.perhaps = append(b.perhaps, value)
	case refused:
	}
}

func (b *belief[V]) certain() bool { return len(b.perhaps) == 0 }

func (b *belief[V]) allows(value V) bool { return value == b.last || slices.Contains(b.perhaps, value) }

// effect is one event that a write leads to.
type effect struct {
	event event.Type
	of    *entity // nil: of an entity that the client does not know
	data  object  // what the event's data has, among others
	many  bool    // one event of each of any number of entities
}

// write is one request that was sent, found again by its trace.
type write struct {
	kind    string
	outcome outcome
	// must are the events of such a write, each of which there is exactly once; all of them or none when there was no answer.
	must []effect
	// may are events that there may be besides, each once.
	may []effect
}

// entity is something that the platform may have.
type entity struct {
	// id is empty while no answer has told it. Then the name, which only one write gave, leads to it: in the end, by PostgreSQL.
	id, name string
	exists   bool // an answer said so
}

// item is what a client knows of an item.
type item struct {
	entity
	bytes   int // of its content, which never changes
	title   belief[string]
	tags    belief[string] // sorted, with commas
	home    belief[string] // the id of its collection
	moved   belief[string] // something in its metadata
	trashed belief[bool]
	version int64 // the newest that was acknowledged
	// blurred says that nobody knows its tags: a change of tags had no answer, or came while something else was unclear.
	blurred bool
}

// collection is what a client, its only owner, knows of a collection.
type collection struct {
	entity
	title   belief[string]
	deleted belief[bool]
	version int64
	member  belief[string]             // the role of the client's neighbour; empty for none
	tags    map[string]*belief[string] // names by id; empty for none
	// blurred says that a change of tags had no answer: it may come late, and change items that don't have the tag yet.
	blurred bool
}

func (i *item) has(tag string) bool { return slices.Contains(strings.Split(i.tags.last, ","), tag) }

// clear says that the item is in this collection, and with which tags.
func (i *item) clear(where *collection) bool {
	return i.exists && !i.blurred && !where.blurred && i.home.certain() && i.home.last == where.id && i.tags.certain()
}

// comesTo says that the item may be in this collection.
func (i *item) comesTo(where *collection) { i.blurred = i.blurred || where.blurred }

// retagged is what follows for the items from a change that takes a tag away and, unless another is empty, gives them another. It returns the events.
func retagged(o outcome, items []*item, where *collection, tag, another string) (must, may []effect) {
	every := effect{event: event.ItemUpdated, many: true, data: object{"collection_id": where.id}}
	if o == unanswered {
		where.blurred = true
		may = append(may, every)
	}
	for _, i := range items {
		if o == refused || !i.home.allows(where.id) {
			continue
		}
		one := effect{event: event.ItemUpdated, of: &i.entity, data: object{"collection_id": where.id}}
		switch {
		case o == unanswered:
			i.blurred = true
		case !i.clear(where):
			i.blurred = true
			may = append(may, one)
		case i.has(tag):
			must = append(must, one)
			names := remove(strings.Split(i.tags.last, ","), tag)
			if another != "" {
				names = append(names, another)
			}
			i.tags.last = sorted(names)
		}
	}
	return must, may
}

// sorted is a set of names in one form.
func sorted(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// remove takes a value out of a list.
func remove[V comparable](values []V, value V) []V {
	return slices.DeleteFunc(slices.Clone(values), func(other V) bool { return other == value })
}
