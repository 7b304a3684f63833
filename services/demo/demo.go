// Package demo loads real Markdown documents into a running Atlas as an ordinary user would, over the REST API, then searches them and
// reports how long indexing lagged behind.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/atlas-platform/atlas/client"
)

// Options says what to load and where.
type Options struct {
	// URL is the API's base URL.
	URL string
	// Dir is a folder of Markdown files; empty means this machine's Go module cache.
	Dir string
	// Documents is how many documents to load.
	Documents int
	// Concurrency is how many requests are under way at once.
	Concurrency int
	// CredentialsFile is where the demo user's e-mail and password are written, mode 0600.
	CredentialsFile string
	// Out is where progress and results are printed; Terminal says that it can redraw a line.
	Out      io.Writer
	Terminal bool
}

// Run loads the documents and searches them. It returns an error as soon as anything does not work as a user would expect.
func Run(ctx context.Context, o Options) error {
	dir := o.Dir
	if dir == "" {
		found, err := corpusDir(ctx)
		if err != nil {
			return err
		}
		dir = found
	}
	docs, err := readCorpus(dir, o.Documents)
	if err != nil {
		return err
	}
	fmt.Fprintf(o.Out, "Loading %d Markdown documents from %s into %s\n", len(docs), dir, o.URL)
	if len(docs) < o.Documents {
		fmt.Fprintf(o.Out, "(there are no more; %d were asked for)\n", o.Documents)
	}

	user, err := signUp(ctx, o)
	if err != nil {
		return err
	}
	collections, err := user.createCollections(ctx, docs)
	if err != nil {
		return err
	}
	lag, err := user.load(ctx, o, docs, collections)
	if err != nil {
		return err
	}
	if err := user.awaitSearch(ctx, o, len(docs), collections, lag); err != nil {
		return err
	}
	return user.search(ctx, o, collections)
}

// session is the demo's ordinary user.
type session struct {
	anonymous *client.ClientWithResponses // registers and logs in
	api       *client.ClientWithResponses // acts as the user
	email     string
	password  string

	mu      sync.Mutex
	token   string
	expires time.Time
}

func signUp(ctx context.Context, o Options) (*session, error) {
	random := make([]byte, 12)
	_, _ = rand.Read(random) // crypto/rand never fails
	s := &session{
		email:    fmt.Sprintf("demo-%s@example.com", hex.EncodeToString(random[:4])),
		password: hex.EncodeToString(random),
	}
	httpClient := client.WithHTTPClient(&http.Client{
		Timeout: client.DefaultTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: o.Concurrency + 1},
	})
	var err error
	if s.anonymous, err = client.New(o.URL, nil, httpClient); err != nil {
		return nil, fmt.Errorf("use the API at %s: %w", o.URL, err)
	}
	if s.api, err = client.New(o.URL, s.accessToken, httpClient); err != nil {
		return nil, fmt.Errorf("use the API at %s: %w", o.URL, err)
	}
	name := "Demo"
	answer, err := s.anonymous.RegisterWithResponse(ctx, client.RegisterRequest{Email: s.email, Password: s.password, DisplayName: &name})
	if err != nil {
		return nil, fmt.Errorf("reach the API at %s: %w; is Atlas running (`make up` or `make dev`)?", o.URL, err)
	}
	if err := check("register", answer.HTTPResponse, answer.Body); err != nil {
		return nil, err
	}
	if err := s.writeCredentials(o.CredentialsFile, o.URL); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Out, "Registered %s (password in %s)\n", s.email, o.CredentialsFile)
	return s, nil
}

// accessToken logs in, again when the token is about to expire. It is a client.TokenSource.
func (s *session) accessToken(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.expires) {
		return s.token, nil
	}
	answer, err := s.anonymous.LoginWithResponse(ctx, client.LoginRequest{Email: s.email, Password: s.password})
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	if err := check("log in", answer.HTTPResponse, answer.Body); err != nil {
		return "", err
	}
	lifetime := time.Duration(answer.JSON200.ExpiresIn) * time.Second
	s.token, s.expires = answer.JSON200.AccessToken, time.Now().Add(lifetime*3/4)
	return s.token, nil
}

func (s *session) createCollections(ctx context.Context, docs []document) (map[string]uuid.UUID, error) {
	collections := map[string]uuid.UUID{}
	for _, doc := range docs {
		if _, made := collections[doc.collection]; made {
			continue
		}
		description := "READMEs and docs of Go modules, loaded by the demo"
		answer, err := s.api.CreateCollectionWithResponse(ctx, nil, client.CollectionCreate{Name: doc.collection, Description: &description})
		if err != nil {
			return nil, fmt.Errorf("create the collection %q: %w", doc.collection, err)
		}
		if err := check(fmt.Sprintf("create the collection %q", doc.collection), answer.HTTPResponse, answer.Body); err != nil {
			return nil, err
		}
		collections[doc.collection] = answer.JSON201.ID
	}
	return collections, nil
}

// load creates the items. Every fiftieth is watched until search has it; the watched lags are returned once all are in.
func (s *session) load(ctx context.Context, o Options, docs []document, collections map[string]uuid.UUID) ([]time.Duration, error) {
	bar := newProgress(o.Out, o.Terminal, "documents", len(docs))
	start := time.Now()
	lags := make([]time.Duration, (len(docs)+watchEvery-1)/watchEvery)
	watchers, watchCtx := errgroup.WithContext(ctx)
	writers, writeCtx := errgroup.WithContext(ctx)
	writers.SetLimit(o.Concurrency)
	for i, doc := range docs {
		if writeCtx.Err() != nil {
			break
		}
		writers.Go(func() error {
			id, err := s.createItem(writeCtx, doc, collections[doc.collection])
			if err != nil {
				return err
			}
			bar.add(1)
			if written := time.Now(); i%watchEvery == 0 {
				watchers.Go(func() error {
					err := s.awaitItem(watchCtx, id)
					lags[i/watchEvery] = time.Since(written)
					return err
				})
			}
			return nil
		})
	}
	err := writers.Wait()
	took := time.Since(start)
	bar.done()
	if err := errors.Join(err, watchers.Wait()); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Out, "Loaded %d documents into %d collections in %s (%.0f/s)\n",
		len(docs), len(collections), took.Round(100*time.Millisecond), float64(len(docs))/took.Seconds())
	slices.Sort(lags)
	return lags, nil
}

func (s *session) createItem(ctx context.Context, doc document, collection uuid.UUID) (uuid.UUID, error) {
	answer, err := s.api.CreateItemWithResponse(ctx, nil, client.ItemCreate{
		CollectionID: collection, Title: doc.title, Content: doc.content, Tags: &doc.tags,
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("create an item from %s: %w", doc.path, err)
	}
	if err := check("create an item from "+doc.path, answer.HTTPResponse, answer.Body); err != nil {
		return uuid.Nil, err
	}
	return answer.JSON201.ID, nil
}

// check turns an answer that is no success into an error that says what was being done and what the API said.
func check(doing string, response *http.Response, body []byte) error {
	if err := client.Check(response, body); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
