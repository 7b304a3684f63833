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
	"sync/atomic"
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

// session is the demo's ordinary user. Its token is renewed before it expires.
type session struct {
	api      *client.ClientWithResponses
	email    string
	password string
	token    atomic.Pointer[bearer]
}

type bearer struct {
	value   string
	expires time.Time
}

func signUp(ctx context.Context, o Options) (*session, error) {
	random := make([]byte, 12)
	_, _ = rand.Read(random) // crypto/rand never fails
	s := &session{
		email:    fmt.Sprintf("demo-%s@example.com", hex.EncodeToString(random[:4])),
		password: hex.EncodeToString(random),
	}
	httpClient := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: o.Concurrency + 1}}
	api, err := client.NewClientWithResponses(o.URL, client.WithHTTPClient(httpClient), client.WithRequestEditorFn(s.authorize))
	if err != nil {
		return nil, fmt.Errorf("use the API at %s: %w", o.URL, err)
	}
	s.api = api
	name := "Demo"
	answer, err := api.RegisterWithResponse(ctx, client.RegisterRequest{Email: s.email, Password: s.password, DisplayName: &name})
	if err != nil {
		return nil, fmt.Errorf("reach the API at %s: %w; is Atlas running (`make up` or `make dev`)?", o.URL, err)
	}
	if answer.JSON201 == nil {
		return nil, problem("register", answer.HTTPResponse, answer.ApplicationProblemJSONDefault)
	}
	if err := s.login(ctx); err != nil {
		return nil, err
	}
	if err := s.writeCredentials(o.CredentialsFile, o.URL); err != nil {
		return nil, err
	}
	fmt.Fprintf(o.Out, "Registered %s (password in %s)\n", s.email, o.CredentialsFile)
	return s, nil
}

func (s *session) login(ctx context.Context) error {
	answer, err := s.api.LoginWithResponse(ctx, client.LoginRequest{Email: s.email, Password: s.password})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if answer.JSON200 == nil {
		return problem("log in", answer.HTTPResponse, answer.ApplicationProblemJSONDefault)
	}
	lifetime := time.Duration(answer.JSON200.ExpiresIn) * time.Second
	s.token.Store(&bearer{value: answer.JSON200.AccessToken, expires: time.Now().Add(lifetime * 3 / 4)})
	return nil
}

func (s *session) authorize(_ context.Context, r *http.Request) error {
	if t := s.token.Load(); t != nil {
		r.Header.Set("Authorization", "Bearer "+t.value)
	}
	return nil
}

// renew logs in again when the token is about to expire.
func (s *session) renew(ctx context.Context) error {
	if t := s.token.Load(); t != nil && time.Now().Before(t.expires) {
		return nil
	}
	return s.login(ctx)
}

func (s *session) createCollections(ctx context.Context, docs []document) (map[string]uuid.UUID, error) {
	collections := map[string]uuid.UUID{}
	for _, doc := range docs {
		if _, made := collections[doc.collection]; made {
			continue
		}
		description := "READMEs and docs of Go modules, loaded by the demo"
		answer, err := s.api.CreateCollectionWithResponse(ctx, client.CollectionCreate{Name: doc.collection, Description: &description})
		if err != nil {
			return nil, fmt.Errorf("create the collection %q: %w", doc.collection, err)
		}
		if answer.JSON201 == nil {
			return nil, problem(fmt.Sprintf("create the collection %q", doc.collection), answer.HTTPResponse, answer.ApplicationProblemJSONDefault)
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
		if err := s.renew(ctx); err != nil {
			return nil, err
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
	answer, err := s.api.CreateItemWithResponse(ctx, client.ItemCreate{
		CollectionID: collection, Title: doc.title, Content: doc.content, Tags: &doc.tags,
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("create an item from %s: %w", doc.path, err)
	}
	if answer.JSON201 == nil {
		return uuid.Nil, problem("create an item from "+doc.path, answer.HTTPResponse, answer.ApplicationProblemJSONDefault)
	}
	return answer.JSON201.ID, nil
}

// problem turns an answer that is not the wanted one into an error that says what the API said.
func problem(doing string, response *http.Response, p *client.Problem) error {
	if p == nil {
		return fmt.Errorf("%s: the API answered %s", doing, response.Status)
	}
	message := p.Title
	if p.Detail != nil {
		message += ": " + *p.Detail
	}
	if p.Errors != nil {
		for _, field := range *p.Errors {
			where := ""
			if field.Pointer != nil {
				where = *field.Pointer + " "
			}
			message += "; " + where + field.Message
		}
	}
	return fmt.Errorf("%s: %s (HTTP %d, trace %s)", doing, message, p.Status, p.TraceID)
}
