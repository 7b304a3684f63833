//go:build linux

package faults

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/event"
)

// step is a kind of writes.
type step struct {
	kind   string
	weight int // of a hundred steps
	do     func(*client)
}

var steps = []step{
	{"create-collection", 3, (*client).createCollection},
	{"create", 12, (*client).createItem},
	{"update", 28, (*client).updateItem},
	{"move", 6, (*client).moveItem},
	{"delete", 7, (*client).deleteItem},
	{"restore", 5, (*client).restoreItem},
	{"bulk", 6, (*client).bulk},
	{"rename-tag", 2, (*client).renameTag},
	{"merge-tags", 2, (*client).mergeTags},
	{"delete-tag", 2, (*client).deleteTag},
	{"import", 3, (*client).importItems},
	{"add-member", 3, (*client).addMember},
	{"change-role", 3, (*client).changeRole},
	{"remove-member", 3, (*client).removeMember},
	{"rename", 4, (*client).renameCollection},
	{"delete-collection", 2, (*client).deleteCollection},
	{"job", 3, (*client).queueJob},
	{"stranger", 3, (*client).stranger},
	{"invalid", 3, (*client).invalid},
}

// step is one write. Its kind follows from the seed and the step's number; only for lack of things to change it makes some instead.
func (c *client) step() {
	c.begin()
	n := c.choose(100)
	switch {
	case len(c.collections) < 2:
		c.createCollection()
		return
	case len(c.items) < 2:
		c.createItem()
		return
	}
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			s.do(c)
			return
		}
	}
}

// must has the write lead to events.
func (a answer) must(effects ...effect) { a.write.must = append(a.write.must, effects...) }

func (a answer) may(effects ...effect) { a.write.may = append(a.write.may, effects...) }

func (c *client) createCollection() {
	made := &collection{entity: entity{name: fmt.Sprintf("collection %d of client %s", c.sent, c.name)}, tags: map[string]*belief[string]{}}
	made.title = believe(made.name)
	a := c.do("create-collection", "POST", "/v1/collections", object{"name": made.name})
	a.must(effect{event: event.CollectionCreated, of: &made.entity, data: object{"entity_version": 1.0, "name": made.name}})
	if a.outcome != refused {
		c.allCollections = append(c.allCollections, made)
	}
	if a.outcome == acknowledged {
		made.id, _ = a.body["id"].(string)
		made.exists, made.version = true, 1
		c.collections = newest(append(c.collections, made), maxOwnCollections)
	}
}

func (c *client) createItem() {
	where := one(c, c.collections)
	i, body := c.draft(where, "")
	a := c.do("create", "POST", "/v1/items", body)
	a.must(created(i))
	c.made(a.outcome, i, where, a.body["id"])
}

func created(i *item) effect {
	return effect{event: event.ItemCreated, of: &i.entity, data: object{"entity_version": 1.0, "collection_id": i.home.last}}
}

func (c *client) updateItem() {
	i, title := one(c, c.items), fmt.Sprintf("title %d of client %s", c.sent, c.name)
	tags := []string{fmt.Sprintf("only %d", c.sent), c.tag()}
	if c.choose(3) > 0 {
		a := c.change("update", i, object{"title": title})
		i.title.learn(a.outcome, title)
		return
	}
	a := c.change("update", i, object{"tags": tags})
	i.tags.learn(a.outcome, sorted(tags))
}

// change is a change of an item that is its next version.
func (c *client) change(kind string, i *item, patch object) answer {
	a := c.do(kind, "PATCH", "/v1/items/"+i.id, patch)
	a.must(effect{event: event.ItemUpdated, of: &i.entity, data: a.version()})
	i.version = a.saw(i.version)
	return a
}

func (c *client) moveItem() {
	i, to, moved := one(c, c.items), one(c, c.collections), fmt.Sprint(c.sent)
	a := c.change("move", i, object{"collection_id": to.id, "metadata": object{"moved": moved}})
	i.home.learn(a.outcome, to.id)
	i.moved.learn(a.outcome, moved)
	if a.outcome != refused {
		i.comesTo(to)
	}
}

func (c *client) deleteItem() {
	i := one(c, c.items)
	a := c.do("delete", "DELETE", "/v1/items/"+i.id, nil)
	a.must(effect{event: event.ItemDeleted, of: &i.entity})
	i.trashed.learn(a.outcome, true)
	c.items = remove(c.items, i) // when there was no answer, it is left alone
	if a.outcome == acknowledged {
		c.trash = newest(append(c.trash, i), maxOwnItems)
	}
}

func (c *client) restoreItem() {
	if len(c.trash) == 0 {
		c.deleteItem()
		return
	}
	i := one(c, c.trash)
	a := c.do("restore", "POST", "/v1/items/"+i.id+"/restore", nil)
	a.must(effect{event: event.ItemUpdated, of: &i.entity, data: a.version()})
	i.trashed.learn(a.outcome, false)
	i.version = a.saw(i.version)
	c.trash = remove(c.trash, i)
	if a.outcome == acknowledged {
		c.items = newest(append(c.items, i), maxOwnItems)
	}
}

// bulk makes two items and changes one, all or nothing; or each on its own, with one operation that has to fail.
func (c *client) bulk() {
	where, i, title, atomic := one(c, c.collections), one(c, c.items), fmt.Sprintf("bulk %d of client %s", c.sent, c.name), c.choose(2) == 0
	first, firstBody := c.draft(where, " a")
	second, secondBody := c.draft(where, " b")
	operations := []object{
		{"op": "create", "item": firstBody},
		{"op": "create", "item": secondBody},
		{"op": "update", "id": i.id, "patch": object{"title": title}},
	}
	if !atomic {
		operations = append(operations, object{"op": "delete", "id": uuid.NewString()})
	}
	a := c.do("bulk", "POST", "/v1/items/bulk", object{"atomic": atomic, "operations": operations})
	results, _ := a.body["results"].([]any)
	if a.outcome == acknowledged && len(results) != len(operations) {
		c.odd("bulk answers %d results for %d operations", len(results), len(operations))
		return
	}
	for n := range 3 {
		part, o := answer{write: &write{}}, a.outcome
		if a.outcome == acknowledged {
			part.body, _ = results[n].(object)
			status, _ := part.body["status"].(float64)
			switch {
			case status >= 500:
				o = unanswered
			case status >= 300:
				o = refused
			}
		}
		change := effect{event: event.ItemUpdated, of: &i.entity, data: part.version()}
		switch n {
		case 0:
			c.made(o, first, where, part.body["id"])
			change = created(first)
		case 1:
			c.made(o, second, where, part.body["id"])
			change = created(second)
		default:
			i.title.learn(o, title)
			i.version = part.saw(i.version)
		}
		switch {
		case o == acknowledged, o == unanswered && atomic:
			a.must(change)
		case o == unanswered:
			a.may(change)
		}
	}
}

func (c *client) importItems() {
	where, tag := one(c, c.collections), c.tag()
	first := &item{entity: entity{name: fmt.Sprintf("imported %d by client %s", c.sent, c.name)}, bytes: 1, home: believe(where.id)}
	second := &item{entity: entity{name: first.name + ", too"}, bytes: 2, home: believe(where.id), tags: believe(tag)}
	lines := fmt.Sprintf(`{"title":%q,"content":"a"}`+"\n"+`{"title":%q,"content":"bb","tags":[%q]}`+"\n", first.name, second.name, tag)
	a := c.do("import", "POST", "/v1/collections/"+where.id+"/items.ndjson", lines)
	if a.outcome == acknowledged && a.body["created"] != 2.0 {
		c.odd("an import of two items is answered with %v", a.body)
	}
	for _, i := range []*item{first, second} {
		i.title = believe(i.name)
		c.made(a.outcome, i, where, nil)
		a.must(created(i))
	}
}

// twoTags asks for the tags of a collection.
func (c *client) twoTags() (where *collection, tags []tagBody) {
	where = one(c, c.collections)
	status, content, err := c.send(c.addresses[0], "GET", "/v1/collections/"+where.id+"/tags", c.accounts[c.number].token, "", nil)
	var list struct {
		Items []tagBody `json:"items"`
	}
	if err != nil || status != 200 || json.Unmarshal(content, &list) != nil || len(list.Items) < 2 {
		return where, nil
	}
	first, offset := c.choose(len(list.Items)), 1+c.choose(len(list.Items)-1)
	tags = []tagBody{list.Items[first], list.Items[(first+offset)%len(list.Items)]}
	for _, tag := range tags {
		if where.tags[tag.ID] == nil {
			where.tags[tag.ID] = &belief[string]{}
		}
		where.tags[tag.ID].last = tag.Name
	}
	return where, tags
}

type tagBody struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// retag is what follows from a change of a tag that items lose for another one.
func (c *client) retag(a answer, where *collection, tag tagBody, name, another string) {
	where.tags[tag.ID].learn(a.outcome, name)
	must, may := retagged(a.outcome, c.allItems, where, tag.Name, another)
	a.must(must...)
	a.may(may...)
}

func (c *client) renameTag() {
	if where, tags := c.twoTags(); tags != nil {
		name := fmt.Sprintf("renamed %d", c.sent)
		a := c.do("rename-tag", "PATCH", "/v1/collections/"+where.id+"/tags/"+tags[0].ID, object{"name": name})
		c.retag(a, where, tags[0], name, name)
	}
}

func (c *client) mergeTags() {
	if where, tags := c.twoTags(); tags != nil {
		a := c.do("merge-tags", "POST", "/v1/collections/"+where.id+"/tags/"+tags[1].ID+"/merge", object{"tag_ids": []string{tags[0].ID}})
		c.retag(a, where, tags[0], "", tags[1].Name)
	}
}

func (c *client) deleteTag() {
	if where, tags := c.twoTags(); tags != nil {
		a := c.do("delete-tag", "DELETE", "/v1/collections/"+where.id+"/tags/"+tags[0].ID, nil)
		c.retag(a, where, tags[0], "", "")
	}
}

// neighbour is whom the client makes a member of its collections: of the oldest two, so that there is something to change.
func (c *client) neighbour() (account, *collection) {
	return c.accounts[(c.number+1)%(len(c.accounts)-1)], one(c, c.collections[:2])
}

func (c *client) addMember() {
	other, where := c.neighbour()
	a := c.do("add-member", "POST", "/v1/collections/"+where.id+"/members", object{"email": other.email, "role": "editor"})
	a.must(effect{event: event.MembershipAdded, data: object{"collection_id": where.id, "user_id": other.id, "role": "editor", "entity_version": 1.0}})
	where.member.learn(a.outcome, "editor")
}

func (c *client) changeRole() {
	other, where := c.neighbour()
	role := one(c, []string{"viewer", "editor"})
	a := c.do("change-role", "PATCH", "/v1/collections/"+where.id+"/members/"+other.id, object{"role": role})
	if a.outcome == acknowledged && a.body["role"] != role {
		c.odd("a change of the role to %s is answered with %v", role, a.body)
	}
	changed := effect{event: event.MembershipRoleChanged, data: object{"collection_id": where.id, "user_id": other.id, "role": role}}
	switch {
	case !where.member.certain(): // it may be the role already
		a.may(changed)
	case where.member.last != role:
		a.must(changed)
	}
	where.member.learn(a.outcome, role)
}

func (c *client) removeMember() {
	other, where := c.neighbour()
	a := c.do("remove-member", "DELETE", "/v1/collections/"+where.id+"/members/"+other.id, nil)
	a.must(effect{event: event.MembershipRemoved, data: object{"collection_id": where.id, "user_id": other.id}})
	where.member.learn(a.outcome, "")
}

func (c *client) renameCollection() {
	c.rename(one(c, c.collections))
}

func (c *client) rename(where *collection) {
	name := fmt.Sprintf("renamed %d by client %s", c.sent, c.name)
	a := c.do("rename", "PATCH", "/v1/collections/"+where.id, object{"name": name})
	data := object{"name": name}
	if version := a.version(); version != nil {
		data["entity_version"] = version["entity_version"]
	}
	a.must(effect{event: event.CollectionUpdated, of: &where.entity, data: data})
	where.title.learn(a.outcome, name)
	where.version = a.saw(where.version)
}

func (c *client) deleteCollection() {
	if len(c.collections) < 4 {
		c.createCollection()
		return
	}
	where := one(c, c.collections)
	a := c.do("delete-collection", "DELETE", "/v1/collections/"+where.id, nil)
	a.must(effect{event: event.CollectionDeleted, of: &where.entity},
		effect{event: event.JobCreated, data: object{"job_type": "purge", "state": "QUEUED"}})
	a.may(effect{event: event.ItemDeleted, data: object{"collection_id": where.id}, many: true}) // PostgreSQL says of which
	where.deleted.learn(a.outcome, true)
	c.collections = remove(c.collections, where)
	var left []*item
	for _, i := range c.items {
		if i.home.last != where.id {
			left = append(left, i)
		}
	}
	c.items = left
}

func (c *client) queueJob() {
	job, where := &entity{}, one(c, c.collections)
	a := c.do("job", "POST", "/v1/jobs", object{"type": "reindex", "parameters": object{"collection_id": where.id}})
	queued := effect{event: event.JobCreated, data: object{"job_type": "reindex", "state": "QUEUED"}}
	if a.outcome == acknowledged {
		job.id, _ = a.body["id"].(string)
		job.exists, queued.of = true, job
		c.jobs = append(c.jobs, job)
	}
	a.must(queued)
}

// stranger changes what belongs to somebody else.
func (c *client) stranger() {
	c.mustBeRefused(c.do("stranger", "PATCH", "/v1/items/"+one(c, c.items).id, object{"title": "not yours"}))
}

// invalid makes an item that can't be.
func (c *client) invalid() {
	c.mustBeRefused(c.do("invalid", "POST", "/v1/items", object{"collection_id": one(c, c.collections).id, "title": "", "content": "x"}))
}

func (c *client) mustBeRefused(a answer) {
	if a.outcome == acknowledged {
		c.odd("what has to be refused (%s) is answered with %v", a.kind, a.body)
	}
}

// table is how many writes of each kind there were, in Markdown, and which kinds were acknowledged less often than they have to be.
func (w *workload) table(faults int) (table string, short []string) {
	var out strings.Builder
	out.WriteString("| write | acknowledged | at least | refused | without an answer |\n|---|---|---|---|---|\n")
	for _, s := range steps {
		count, least := w.counts[s.kind], s.least(faults)
		fmt.Fprintf(&out, "| %s | %d | %d | %d | %d |\n", s.kind, count[acknowledged], least, count[refused], count[unanswered])
		if count[acknowledged] < least {
			short = append(short, s.kind)
		}
	}
	fmt.Fprintf(&out, "| all | %d | | %d | %d |\n", w.count(acknowledged), w.count(refused), w.count(unanswered))
	return out.String(), short
}

// least is how many such writes have to be acknowledged in a run with so many faults, or refused by design. A quiet machine does ten times as many.
func (s step) least(faults int) int {
	if s.kind == "stranger" || s.kind == "invalid" {
		return 0
	}
	return max(1, s.weight*faults/8)
}
