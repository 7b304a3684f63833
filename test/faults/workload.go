//go:build linux

package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	clientTimeout = 20 * time.Second
	maxOwnItems   = 60
)

type object = map[string]any

// outcome is what a client knows about a write.
type outcome int

const (
	unknown outcome = iota // no answer, or a 5xx: it may have happened
	acknowledged
	refused
)

// write is one request that was sent, found again by its trace.
type write struct {
	kind    string
	outcome outcome
	// single says that such a write, when it is acknowledged, is exactly one event.
	single bool
}

// lastSeen is the newest that a client was told about an item.
type lastSeen struct {
	version int64
	deleted bool
}

// workload is what the clients did.
type workload struct {
	addresses []string
	tokens    []string
	emails    []string
	users     []string
	http      *http.Client

	mu     sync.Mutex
	writes map[string]write // by X-Request-Id
	items  map[string]lastSeen
	counts map[string]int
	// calm says that nothing was broken, so that nothing may have been repeated.
	calm bool
}

// newWorkload makes the clients' accounts.
func newWorkload(p *platformBundle, clients int) *workload {
	w := &workload{
		http:   &http.Client{Timeout: clientTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		writes: map[string]write{}, items: map[string]lastSeen{}, counts: map[string]int{},
	}
	for _, r := range p.of("api") {
		w.addresses = append(w.addresses, "http://"+r.address)
	}
	for n := range clients {
		account := object{"email": fmt.Sprintf("client%d@example.com", n), "password": "correct horse battery"}
		for _, path := range []string{"/v1/auth/register", "/v1/auth/login"} {
			status, body, err := w.send(w.addresses[0], "POST", path, "", "", account)
			if err != nil || status > 299 {
				p.t.Fatalf("%s: %d %s %v", path, status, body, err)
			}
			var answer struct {
				ID          string `json:"id"`
				AccessToken string `json:"access_token"`
			}
			_ = json.Unmarshal(body, &answer) // the status was right
			if answer.ID != "" {
				w.users = append(w.users, answer.ID)
			} else {
				w.tokens = append(w.tokens, answer.AccessToken)
			}
		}
		w.emails = append(w.emails, account["email"].(string))
	}
	return w
}

func (w *workload) send(address, method, path, token, trace string, body any) (int, []byte, error) {
	var content []byte
	contentType := "application/json"
	switch body := body.(type) {
	case nil:
	case string:
		content, contentType = []byte(body), "application/x-ndjson"
	default:
		content, _ = json.Marshal(body) // maps, strings and numbers
	}
	request, err := http.NewRequestWithContext(context.Background(), method, address+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", contentType)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if trace != "" {
		request.Header.Set("X-Request-Id", trace)
	}
	response, err := w.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// get asks for something that needs no token.
func get(ctx context.Context, address string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// client is one user who writes.
type client struct {
	*workload
	number      int
	random      *rand.Rand
	sent        int
	collections []string
	items       []string
	trash       []string
	home        map[string]string // the collection of each item
}

// run writes until ctx is done, a little faster than one at a time per client can.
func (w *workload) run(ctx context.Context, seed uint64, number int) {
	w.newClient(seed, number).loop(ctx)
}

func (w *workload) newClient(seed uint64, number int) *client {
	return &client{workload: w, number: number, random: rand.New(rand.NewPCG(seed, uint64(number))), home: map[string]string{}}
}

func (c *client) loop(ctx context.Context) {
	for ctx.Err() == nil {
		c.step()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(c.random.IntN(40)) * time.Millisecond):
		}
	}
}

// do sends a write and keeps what became of it.
func (c *client) do(kind string, single bool, method, path string, body any) (int, object) {
	c.sent++
	trace := fmt.Sprintf("w%d-%d-%s", c.number, c.sent, kind)
	token := c.tokens[c.number]
	if kind == "stranger" {
		token = c.tokens[len(c.tokens)-1]
	}
	status, answer, err := c.send(c.addresses[c.random.IntN(len(c.addresses))], method, path, token, trace, body)
	result := write{kind: kind, single: single}
	switch {
	case err == nil && status < 300:
		result.outcome = acknowledged
	case err == nil && status < 500 && status != http.StatusRequestTimeout:
		result.outcome = refused
	}
	c.mu.Lock()
	c.writes[trace] = result
	switch result.outcome {
	case acknowledged:
		c.counts["acknowledged"]++
	case refused:
		c.counts["refused"]++
	default:
		c.counts["unanswered"]++
	}
	c.mu.Unlock()
	if err != nil {
		return 0, nil
	}
	var out object
	if json.Unmarshal(answer, &out) != nil {
		return status, nil // no JSON
	}
	return status, out
}

func (c *client) saw(item string, version any, deleted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.workload.items[item]
	if v, ok := version.(float64); ok {
		seen.version = max(seen.version, int64(v))
	}
	seen.deleted = deleted
	c.workload.items[item] = seen
}

// pick takes one of the values.
func (c *client) pick(values []string) string { return values[c.random.IntN(len(values))] }

func (c *client) tag() string { return fmt.Sprintf("tag%d", c.random.IntN(6)) }

func (c *client) newItem(collection string) object {
	words := 20
	if c.random.IntN(80) == 0 {
		words = 100_000 // close to the limit of what an item may have
	}
	return object{
		"collection_id": collection, "title": fmt.Sprintf("item %d of client %d", c.sent, c.number), "tags": []string{c.tag()},
		"content": strings.Repeat("lorem <b> ", words),
	}
}

// step is one write of any kind.
func (c *client) step() {
	if len(c.collections) == 0 {
		c.createCollection()
		return
	}
	if len(c.items) == 0 {
		c.createItem()
		return
	}
	collection := c.pick(c.collections)
	switch n := c.random.IntN(100); {
	case n < 3:
		c.createCollection()
	case n < 25 && len(c.items) < maxOwnItems:
		c.createItem()
	case n < 50:
		c.updateItem()
	case n < 55:
		item, to := c.pick(c.items), c.pick(c.collections)
		if status, answer := c.do("move", c.home[item] != to, "PATCH", "/v1/items/"+item, object{"collection_id": to, "metadata": object{"moved": c.sent}}); status == 200 {
			c.home[item] = to
			c.saw(item, answer["version"], false)
		}
	case n < 62:
		c.deleteItem()
	case n < 66 && len(c.trash) > 0:
		c.restoreItem()
	case n < 72:
		c.bulk(collection)
	case n < 75:
		c.retag(collection)
	case n < 77:
		lines := fmt.Sprintf(`{"title":"imported %d","content":"a"}`+"\n"+`{"title":"imported %d, too","content":"b","tags":["%s"]}`+"\n", c.sent, c.sent, c.tag())
		c.do("import", false, "POST", "/v1/collections/"+collection+"/items.ndjson", lines)
	case n < 84:
		c.member(collection)
	case n < 88:
		c.do("rename", true, "PATCH", "/v1/collections/"+collection, object{"name": fmt.Sprintf("renamed %d", c.sent)})
	case n < 90 && len(c.collections) > 3:
		c.deleteCollection()
	case n < 93:
		c.do("job", false, "POST", "/v1/jobs", object{"type": "reindex", "parameters": object{"collection_id": collection}})
	case n < 97:
		c.do("stranger", false, "PATCH", "/v1/items/"+c.pick(c.items), object{"title": "not yours"})
	default:
		c.do("invalid", false, "POST", "/v1/items", object{"collection_id": collection, "title": "", "content": "x"})
	}
}

func (c *client) createCollection() {
	if status, answer := c.do("create-collection", false, "POST", "/v1/collections", object{"name": fmt.Sprintf("collection %d", c.sent)}); status == 201 {
		c.collections = append(c.collections, answer["id"].(string))
	}
}

func (c *client) createItem() {
	collection := c.pick(c.collections)
	if status, answer := c.do("create", true, "POST", "/v1/items", c.newItem(collection)); status == 201 {
		item := answer["id"].(string)
		c.items, c.home[item] = append(c.items, item), collection
		c.saw(item, answer["version"], false)
	}
}

func (c *client) updateItem() {
	item, patch := c.pick(c.items), object{"title": fmt.Sprintf("title %d of client %d", c.sent, c.number)}
	if c.random.IntN(3) == 0 {
		patch = object{"tags": []string{fmt.Sprintf("only %d", c.sent), c.tag()}}
	}
	if status, answer := c.do("update", true, "PATCH", "/v1/items/"+item, patch); status == 200 {
		c.saw(item, answer["version"], false)
	}
}

// remove takes an item out of a list.
func remove(items []string, item string) []string {
	return slices.DeleteFunc(items, func(other string) bool { return other == item })
}

func (c *client) deleteItem() {
	item := c.pick(c.items)
	status, _ := c.do("delete", true, "DELETE", "/v1/items/"+item, nil)
	c.items = remove(c.items, item) // nobody knows what became of it when there was no answer
	if status == 204 {
		c.saw(item, nil, true)
		c.trash = append(c.trash, item)
	}
}

func (c *client) restoreItem() {
	item := c.pick(c.trash)
	status, answer := c.do("restore", true, "POST", "/v1/items/"+item+"/restore", nil)
	c.trash = remove(c.trash, item)
	if status == 200 {
		c.items = append(c.items, item)
		c.saw(item, answer["version"], false)
	} else {
		c.forget(item)
	}
}

// forget leaves an item's fate open.
func (c *client) forget(item string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.workload.items[item]
	seen.deleted = false
	c.workload.items[item] = seen
}

func (c *client) bulk(collection string) {
	operations := []object{
		{"op": "create", "item": c.newItem(collection)},
		{"op": "create", "item": c.newItem(collection)},
		{"op": "update", "id": c.pick(c.items), "patch": object{"title": fmt.Sprintf("bulk %d", c.sent)}},
		{"op": "delete", "id": uuid.NewString()},
	}
	atomic := c.random.IntN(2) == 0
	if atomic {
		operations = operations[:3]
	}
	c.do("bulk", false, "POST", "/v1/items/bulk", object{"atomic": atomic, "operations": operations})
}

func (c *client) retag(collection string) {
	status, answer, err := c.send(c.addresses[0], "GET", "/v1/collections/"+collection+"/tags", c.tokens[c.number], "", nil)
	var list struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err != nil || status != 200 || json.Unmarshal(answer, &list) != nil || len(list.Items) < 2 {
		return
	}
	path := "/v1/collections/" + collection + "/tags/" + list.Items[0].ID
	switch c.random.IntN(3) {
	case 0:
		c.do("rename-tag", false, "PATCH", path, object{"name": fmt.Sprintf("renamed %d", c.sent)})
	case 1:
		c.do("merge-tags", false, "POST", path+"/merge", object{"tag_ids": []string{list.Items[1].ID}})
	default:
		c.do("delete-tag", false, "DELETE", path, nil)
	}
}

func (c *client) member(collection string) {
	other := (c.number + 1) % (len(c.users) - 1)
	path := "/v1/collections/" + collection + "/members"
	switch c.random.IntN(3) {
	case 0:
		c.do("add-member", true, "POST", path, object{"email": c.emails[other], "role": "editor"})
	case 1:
		c.do("change-role", false, "PATCH", path+"/"+c.users[other], object{"role": c.pick([]string{"viewer", "editor"})})
	default:
		c.do("remove-member", true, "DELETE", path+"/"+c.users[other], nil)
	}
}

func (c *client) deleteCollection() {
	collection := c.pick(c.collections)
	status, _ := c.do("delete-collection", false, "DELETE", "/v1/collections/"+collection, nil)
	c.collections = remove(c.collections, collection)
	var left []string
	for _, item := range c.items {
		if c.home[item] != collection {
			left = append(left, item)
		} else if status == 204 {
			c.saw(item, nil, true)
		}
	}
	c.items = left
}
