// Package client calls the REST API of Atlas. Everything in client.gen.go is generated from services/api/openapi.yaml; this file adds the
// constructor and turns problem+json answers into Go errors.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
)

// DefaultTimeout bounds a whole call, answer included, unless WithHTTPClient gives another client: as imports and exports of many items want, which
// may take an hour. The methods without WithResponse stream their answer.
const DefaultTimeout = 30 * time.Second

// TokenSource returns the access token for one request. It is called for every request, so that it can hand out a fresh token in time.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken is a TokenSource that always returns token.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// New returns a client for the API at baseURL (scheme and host, no /v1). A nil token sends no Authorization header, which is right for
// Register, Login, Refresh, Logout and GetKeys only.
func New(baseURL string, token TokenSource, opts ...ClientOption) (*ClientWithResponses, error) {
	all := []ClientOption{WithHTTPClient(&http.Client{Timeout: DefaultTimeout})}
	if token != nil {
		all = append(all, WithRequestEditorFn(func(ctx context.Context, req *http.Request) error {
			value, err := token(ctx)
			if err != nil {
				return fmt.Errorf("get an access token: %w", err)
			}
			req.Header.Set("Authorization", "Bearer "+value)
			return nil
		}))
	}
	return NewClientWithResponses(strings.TrimSuffix(baseURL, "/"), append(all, opts...)...)
}

// Error is an answer that is not a success.
type Error struct {
	// StatusCode is the HTTP status.
	StatusCode int
	// Problem is what the API said. Only Status and Title are set when something else answered.
	Problem Problem
	// Foreign says that something else than the API answered, a proxy for example.
	Foreign bool
}

// Error says the status, the problem and every field that it names, each thing once.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.StatusCode, e.Problem.Title)
	said := ""
	if e.Problem.Detail != nil {
		said = *e.Problem.Detail
		fmt.Fprintf(&b, ": %s", said)
	}
	if e.Problem.Errors != nil {
		for _, field := range *e.Problem.Errors {
			where := ""
			switch {
			case field.Pointer != nil:
				where = *field.Pointer
			case field.Parameter != nil:
				where = *field.Parameter
			}
			if !strings.Contains(said, field.Message) {
				fmt.Fprintf(&b, "; %s: %s", where, field.Message)
			}
		}
	}
	return b.String()
}

// Check returns nil for an answer with a 2xx or 304 status and an *Error for every other. Pass the HTTPResponse and Body of any answer:
//
//	answer, err := c.GetJobWithResponse(ctx, id, nil)
//	if err == nil {
//		err = client.Check(answer.HTTPResponse, answer.Body)
//	}
func Check(answer *http.Response, body []byte) error {
	if answer.StatusCode/100 == 2 || answer.StatusCode == http.StatusNotModified {
		return nil
	}
	failure := &Error{StatusCode: answer.StatusCode}
	mediaType, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if mediaType == "application/problem+json" && json.Unmarshal(bytes.TrimSpace(body), &failure.Problem) == nil {
		return failure
	}
	failure.Foreign = true
	failure.Problem = Problem{Status: answer.StatusCode, Title: http.StatusText(answer.StatusCode)}
	return failure
}
