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
	"strings"
	"sync"
	"time"
)

const (
	clientTimeout = 20 * time.Second
	// How many of its things a client goes on changing: the newest.
	maxOwnItems, maxOwnCollections = 60, 8
)

type object = map[string]any

// account is somebody who writes.
type account struct{ id, email, token string }

// workload is what the clients did.
type workload struct {
	addresses []string
	accounts  []account // the last one is a member of nothing
	http      *http.Client
	seed      uint64

	mu      sync.Mutex
	writes  map[string]*write // by X-Request-Id
	counts  map[string]map[outcome]int
	answers findings // what was wrong with answers
	clients []*client
	// once says that nothing may have been published twice.
	once bool
}

// newWorkload makes the clients' accounts, and a stranger's.
func newWorkload(p *platformBundle, seed uint64, clients int) *workload {
	w := &workload{
		http: &http.Client{Timeout: clientTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		seed: seed, writes: map[string]*write{}, counts: map[string]map[outcome]int{},
	}
	for _, r := range p.of("api") {
		w.addresses = append(w.addresses, "http://"+r.address)
	}
	for n := range clients + 1 {
		one := account{email: fmt.Sprintf("client%d@example.com", n)}
		for _, path := range []string{"/v1/auth/register", "/v1/auth/login"} {
			status, body, err := w.send(w.addresses[0], "POST", path, "", "", object{"email": one.email, "password": "correct horse battery"})
			if err != nil || status > 299 {
				p.t.Fatalf("%s: %d %s %v", path, status, body, err)
			}
			var answer struct {
				ID          string `json:"id"`
				AccessToken string `json:"access_token"`
			}
			_ = json.Unmarshal(body, &answer) // the status was right
			one.id, one.token = one.id+answer.ID, answer.AccessToken
		}
		w.accounts = append(w.accounts, one)
	}
	for n := range clients {
		w.newClient(n, fmt.Sprintf("w%d", n))
	}
	return w
}

// newClient makes a client of an account. Several of one account need names of their own.
func (w *workload) newClient(number int, name string) *client {
	c := &client{workload: w, number: number, name: name}
	w.clients = append(w.clients, c)
	return c
}

// count is how many writes had an outcome.
func (w *workload) count(o outcome) (n int) {
	for _, outcomes := range w.counts {
		n += outcomes[o]
	}
	return n
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

// client is one user who writes, one request after the other.
type client struct {
	*workload
	number int
	name   string
	random *rand.Rand // of the step at hand
	sent   int        // steps

	// Everything that it ever made, or may have made, and what it goes on with.
	allItems, items, trash      []*item
	allCollections, collections []*collection
	jobs                        []*entity
}

// loop takes steps until ctx is done.
func (c *client) loop(ctx context.Context) {
	for ctx.Err() == nil {
		c.step()
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(c.choose(40)) * time.Millisecond):
		}
	}
}

// begin begins a step. What it draws depends on the seed, the client and the step's number, not on the steps before.
func (c *client) begin() {
	c.sent++
	c.random = rand.New(rand.NewPCG(c.seed, uint64(c.number)<<32|uint64(c.sent)))
}

// choose draws a number below n. It is one draw, whatever n is.
func (c *client) choose(n int) int { return int(c.random.Uint64() % uint64(n)) }

// one draws one of the values.
func one[V any](c *client, values []V) V { return values[c.choose(len(values))] }

// answer is what came back for a write.
type answer struct {
	*write
	body object // nil without a JSON body
}

// version is the entity's version that the answer tells, as an event's data has it.
func (a answer) version() object {
	if v, ok := a.body["version"].(float64); ok {
		return object{"entity_version": v}
	}
	return nil
}

// saw is the greater one of a version and that of the answer.
func (a answer) saw(version int64) int64 {
	v, _ := a.body["version"].(float64)
	return max(version, int64(v))
}

// do sends the write of the step at hand and keeps what became of it.
func (c *client) do(kind, method, path string, body any) answer {
	trace := fmt.Sprintf("%s-%d-%s", c.name, c.sent, kind)
	token := c.accounts[c.number].token
	if kind == "stranger" {
		token = c.accounts[len(c.accounts)-1].token
	}
	status, content, err := c.send(one(c, c.addresses), method, path, token, trace, body)
	a := answer{write: &write{kind: kind}}
	switch {
	case err == nil && status < 300:
		a.outcome = acknowledged
	case err == nil && status < 500 && status != http.StatusRequestTimeout:
		a.outcome = refused
	}
	if err == nil {
		_ = json.Unmarshal(content, &a.body) // or there is none
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes[trace] = a.write
	if c.counts[kind] == nil {
		c.counts[kind] = map[outcome]int{}
	}
	c.counts[kind][a.outcome]++
	return a
}

// odd notes an answer that can't be right.
func (c *client) odd(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers.add(brokenAnswer, format, args...)
}

func (c *client) tag() string { return fmt.Sprintf("tag%d", c.choose(6)) }

// draft is an item that is to be made, and the request for it.
func (c *client) draft(where *collection, suffix string) (*item, object) {
	words := 20
	if c.choose(80) == 0 {
		words = 100_000 // close to the limit of what an item may have
	}
	i := &item{
		entity: entity{name: fmt.Sprintf("item %d%s of client %s", c.sent, suffix, c.name)}, tags: believe(c.tag()), home: believe(where.id),
	}
	content := strings.Repeat("lorem <b> ", words)
	i.bytes, i.title = len(content), believe(i.name)
	return i, object{"collection_id": where.id, "title": i.name, "tags": []string{i.tags.last}, "content": content}
}

// made is what follows from a request to make the item.
func (c *client) made(o outcome, i *item, where *collection, id any) {
	if o == refused {
		return
	}
	i.comesTo(where)
	c.allItems = append(c.allItems, i)
	if o == acknowledged {
		i.exists, i.version = true, 1
		if i.id, _ = id.(string); i.id != "" { // an import tells none
			c.items = newest(append(c.items, i), maxOwnItems)
		}
	}
}

func newest[V any](values []V, n int) []V { return values[max(0, len(values)-n):] }
