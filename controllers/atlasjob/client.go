package atlasjob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	atlas "github.com/atlas-platform/atlas/client"
)

const (
	// callTimeout bounds one call, its body included. A reconcile makes one call, so it also bounds how long a worker is held up.
	callTimeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer. A job has about 1 kB, and the errors of its last attempts.
	maxAnswer = 256 << 10
)

// refusedError says that the API understood the request and won't do it: asking again gives the same answer.
type refusedError struct{ answer *atlas.Error }

func (e *refusedError) Error() string { return text(e.answer) }

// unauthorizedError says that the API doesn't accept the token. It passes once the API runs with the key that the operator reads.
type unauthorizedError struct{ refusedError }

// text is what the API said, for people who read a status.
func text(e *atlas.Error) string {
	var out strings.Builder
	switch {
	case e.Problem.Detail != nil && *e.Problem.Detail != "":
		out.WriteString(*e.Problem.Detail)
	case e.Problem.Title != "":
		out.WriteString(e.Problem.Title)
	default:
		out.WriteString(http.StatusText(e.StatusCode))
	}
	if e.Problem.Errors != nil {
		separator := ": "
		for _, field := range *e.Problem.Errors {
			out.WriteString(separator)
			separator = "; "
			for _, place := range []*string{field.Pointer, field.Parameter} {
				if place != nil && *place != "" {
					out.WriteString(*place + ": ")
				}
			}
			out.WriteString(field.Message)
		}
	}
	return fmt.Sprintf("%s (HTTP %d)", out.String(), e.StatusCode)
}

// jobsClient calls the jobs of one stack. It is a value for one reconcile: the token lives no longer than that.
type jobsClient struct {
	http    *http.Client
	baseURL string
	token   string
}

func (c jobsClient) api() (*atlas.ClientWithResponses, error) {
	limited := *c.http
	limited.Transport = limitedAnswers{c.http.Transport}
	return atlas.New(c.baseURL, atlas.StaticToken(c.token), atlas.WithHTTPClient(&limited))
}

// submit asks for a job. The same key always answers the same job.
func (c jobsClient) submit(ctx context.Context, key string, request atlas.JobCreate) (*atlas.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	api, err := c.api()
	if err != nil {
		return nil, err
	}
	answer, err := api.CreateJobWithResponse(ctx, &atlas.CreateJobParams{IdempotencyKey: &key}, request)
	if err != nil {
		return nil, fmt.Errorf("submit the job: %w", err)
	}
	return answered(answer.HTTPResponse, answer.Body, answer.JSON202)
}

// get reads a job.
func (c jobsClient) get(ctx context.Context, id string) (*atlas.Job, error) {
	return c.call(ctx, id, "get the job", func(ctx context.Context, api *atlas.ClientWithResponses, id uuid.UUID) (*http.Response, []byte, *atlas.Job, error) {
		answer, err := api.GetJobWithResponse(ctx, id, nil)
		if err != nil {
			return nil, nil, nil, err
		}
		return answer.HTTPResponse, answer.Body, answer.JSON200, nil
	})
}

// find returns the job that was submitted with a key; nil when there is none.
func (c jobsClient) find(ctx context.Context, key string) (*atlas.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	api, err := c.api()
	if err != nil {
		return nil, err
	}
	answer, err := api.ListJobsWithResponse(ctx, &atlas.ListJobsParams{IdempotencyKey: &key})
	if err != nil {
		return nil, fmt.Errorf("look for the job: %w", err)
	}
	if err := atlas.Check(answer.HTTPResponse, answer.Body); err != nil {
		return nil, failure(answer.HTTPResponse.Request, err)
	}
	switch {
	case answer.JSON200 == nil || answer.JSON200.Items == nil:
		return nil, errors.New("the API's answer is not a list of jobs")
	case len(answer.JSON200.Items) == 0:
		return nil, nil
	case len(answer.JSON200.Items) > 1:
		return nil, errors.New("the API answered several jobs with one key")
	}
	return answered(answer.HTTPResponse, answer.Body, &answer.JSON200.Items[0])
}

// cancel asks for the end of a job.
func (c jobsClient) cancel(ctx context.Context, id string) (*atlas.Job, error) {
	return c.call(ctx, id, "cancel the job", func(ctx context.Context, api *atlas.ClientWithResponses, id uuid.UUID) (*http.Response, []byte, *atlas.Job, error) {
		answer, err := api.CancelJobWithResponse(ctx, id)
		if err != nil {
			return nil, nil, nil, err
		}
		return answer.HTTPResponse, answer.Body, cmp.Or(answer.JSON200, answer.JSON202), nil
	})
}

// pause has a job wait, or lets it go on.
func (c jobsClient) pause(ctx context.Context, id uuid.UUID, paused bool) (*atlas.Job, error) {
	what := map[bool]string{true: "pause the job", false: "resume the job"}[paused]
	return c.call(ctx, id.String(), what, func(ctx context.Context, api *atlas.ClientWithResponses, id uuid.UUID) (*http.Response, []byte, *atlas.Job, error) {
		if paused {
			answer, err := api.PauseJobWithResponse(ctx, id)
			if err != nil {
				return nil, nil, nil, err
			}
			return answer.HTTPResponse, answer.Body, cmp.Or(answer.JSON200, answer.JSON202), nil
		}
		answer, err := api.ResumeJobWithResponse(ctx, id)
		if err != nil {
			return nil, nil, nil, err
		}
		return answer.HTTPResponse, answer.Body, answer.JSON200, nil
	})
}

// call is one call about one job, which the API answers.
func (c jobsClient) call(ctx context.Context, id, what string,
	send func(ctx context.Context, api *atlas.ClientWithResponses, id uuid.UUID) (*http.Response, []byte, *atlas.Job, error),
) (*atlas.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	wanted, err := uuid.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("status.jobID %q: %w", id, err)
	}
	api, err := c.api()
	if err != nil {
		return nil, err
	}
	response, body, job, err := send(ctx, api, wanted) //nolint:bodyclose // the generated client has read and closed it
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if job, err = answered(response, body, job); err == nil && job.ID != wanted {
		return nil, errors.New("the API answered another job than the one asked for")
	}
	return job, err
}

// answered returns the job of an answer, or what went wrong: a refusedError or an unauthorizedError when the API itself says no for good or for want
// of a good token, a plain error (to be tried again) for everything else, such as an answer of something that isn't the API.
func answered(answer *http.Response, body []byte, job *atlas.Job) (*atlas.Job, error) {
	if err := atlas.Check(answer, body); err != nil {
		return nil, failure(answer.Request, err)
	}
	switch {
	case job == nil || job.ID == uuid.Nil:
		return nil, errors.New("the API's answer is not a job")
	case !job.State.Valid():
		return nil, fmt.Errorf("the API's answer has the unknown job state %.40q", job.State)
	}
	return job, nil
}

func failure(request *http.Request, err error) error {
	var said *atlas.Error
	if !errors.As(err, &said) {
		return err
	}
	switch status := said.StatusCode; {
	case said.Foreign:
	case status == http.StatusUnauthorized:
		return &unauthorizedError{refusedError{said}}
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		// 409: the same key is being answered right now. None of them is about the request itself.
	case status >= 400 && status <= 499:
		return &refusedError{said}
	}
	// Not wrapped: whoever looks for a refusal must not find one in here.
	return fmt.Errorf("%s %s: %s", request.Method, request.URL, text(said))
}

// limitedAnswers is a transport whose answers end with an error after maxAnswer bytes.
type limitedAnswers struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limitedAnswers) RoundTrip(request *http.Request) (*http.Response, error) {
	next := l.RoundTripper
	if next == nil {
		next = http.DefaultTransport
	}
	answer, err := next.RoundTrip(request)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}

// newHTTPClient is the client used when none is given. It knows no proxy: the call stays inside the cluster, and so must its token.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		ResponseHeaderTimeout: callTimeout,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   2,
	}}
}

// withoutRedirects returns a copy of a client that takes a redirect for an answer: a token is for the host that it was made for.
func withoutRedirects(given *http.Client) *http.Client {
	out := *given
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &out
}
