package atlasjob

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// callTimeout bounds one call, its body included. A reconcile makes one call, so it also bounds how long a worker is held up.
	callTimeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer. A job has about 500 bytes.
	maxAnswer = 64 << 10
)

// The states of a job in the REST API.
const (
	stateQueued    = "QUEUED"
	stateRunning   = "RUNNING"
	stateSucceeded = "SUCCEEDED"
	stateFailed    = "FAILED"
	stateCancelled = "CANCELLED"
)

// jobRequest is the body of POST /v1/jobs.
type jobRequest struct {
	Type       string `json:"type"`
	Parameters any    `json:"parameters"`
}

// reindexParameters are the parameters of type reindex.
type reindexParameters struct {
	CollectionID string `json:"collection_id"`
}

// remoteJob is a job as the REST API shows it, less what isn't mirrored.
type remoteJob struct {
	ID         string          `json:"id"`
	State      string          `json:"state"`
	Attempts   int32           `json:"attempts"`
	Progress   *remoteProgress `json:"progress"`
	Error      *remoteError    `json:"error"`
	CreatedAt  time.Time       `json:"created_at"`
	FinishedAt *time.Time      `json:"finished_at"`
}

type remoteProgress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

type remoteError struct {
	Message string `json:"message"`
}

// problem is an error of the REST API (RFC 9457).
type problem struct {
	Title  string         `json:"title"`
	Detail string         `json:"detail"`
	Errors []problemField `json:"errors"`
}

// problemField names one bad field: of the body by JSON pointer, or a parameter.
type problemField struct {
	Pointer   string `json:"pointer"`
	Parameter string `json:"parameter"`
	Message   string `json:"message"`
}

// refusedError says that the API understood the request and won't do it: asking again gives the same answer.
type refusedError struct {
	status int
	problem
}

func (e *refusedError) Error() string {
	var text strings.Builder
	text.WriteString(e.Detail)
	if e.Detail == "" {
		text.WriteString(e.Title)
	}
	if text.Len() == 0 {
		text.WriteString(http.StatusText(e.status))
	}
	for i, field := range e.Errors {
		if i == 0 {
			text.WriteString(": ")
		} else {
			text.WriteString("; ")
		}
		text.WriteString(strings.TrimPrefix(field.Pointer+field.Parameter+": "+field.Message, ": "))
	}
	return fmt.Sprintf("%s (HTTP %d)", text.String(), e.status)
}

// unauthorizedError says that the API doesn't accept the token. It passes once the API runs with the key that the operator reads.
type unauthorizedError struct{ refusedError }

// jobsClient calls /v1/jobs of one stack. It is a value for one reconcile: the token lives no longer than that.
type jobsClient struct {
	http    *http.Client
	baseURL string
	token   string
}

// submit asks for a job. The same key always answers the same job.
func (c jobsClient) submit(ctx context.Context, key string, request jobRequest) (remoteJob, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return remoteJob{}, fmt.Errorf("encode the job: %w", err)
	}
	return c.call(ctx, http.MethodPost, "/v1/jobs", http.Header{
		"Content-Type":    {"application/json"},
		"Idempotency-Key": {key},
	}, body)
}

// get reads a job.
func (c jobsClient) get(ctx context.Context, id string) (remoteJob, error) {
	job, err := c.call(ctx, http.MethodGet, "/v1/jobs/"+id, http.Header{}, nil)
	if err == nil && job.ID != id {
		return remoteJob{}, errors.New("the API answered another job than the one asked for")
	}
	return job, err
}

func (c jobsClient) call(ctx context.Context, method, path string, header http.Header, body []byte) (remoteJob, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.baseURL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return remoteJob{}, fmt.Errorf("make the request: %w", err)
	}
	request.Header = header
	request.Header.Set("Accept", "application/json, application/problem+json")
	request.Header.Set("Authorization", "Bearer "+c.token)

	response, err := c.http.Do(request)
	if err != nil {
		return remoteJob{}, err // net/http already says the method and the URL
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return remoteJob{}, fmt.Errorf("read the answer to %s %s: %w", method, request.URL, err)
	}
	if len(answer) > maxAnswer {
		return remoteJob{}, fmt.Errorf("the answer to %s %s is larger than %d bytes", method, request.URL, maxAnswer)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return remoteJob{}, failure(method, request.URL.String(), response, answer)
	}
	return decodeJob(answer)
}

// failure turns an answer that isn't 2xx into an error: refusedError or unauthorizedError when the API itself says no for good or for want of a good
// token, a plain one (to be tried again) for everything else, such as an answer of something that isn't the API.
func failure(method, url string, response *http.Response, answer []byte) error {
	said := refusedError{status: response.StatusCode}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	understood := mediaType == "application/problem+json" && json.Unmarshal(answer, &said.problem) == nil
	if understood {
		switch status := response.StatusCode; {
		case status == http.StatusUnauthorized:
			return &unauthorizedError{said}
		case status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
			// 409: the same key is being answered right now. None of them is about the request itself.
		case status >= 400 && status <= 499:
			return &said
		}
	}
	// Not wrapped: whoever looks for a refusal must not find one in here.
	return fmt.Errorf("%s %s: %s", method, url, said.Error())
}

// decodeJob reads a job and refuses one that can't be mirrored.
func decodeJob(answer []byte) (remoteJob, error) {
	var job remoteJob
	if err := json.Unmarshal(answer, &job); err != nil {
		return remoteJob{}, fmt.Errorf("the API's answer is not a job: %w", err)
	}
	// The id becomes part of a URL.
	if id, err := uuid.Parse(job.ID); err != nil || id.String() != job.ID {
		return remoteJob{}, errors.New("the API's answer is not a job: its id is not a UUID")
	}
	switch job.State {
	case stateQueued, stateRunning, stateSucceeded, stateFailed, stateCancelled:
		return job, nil
	default:
		return remoteJob{}, fmt.Errorf("the API's answer has the unknown job state %.40q", job.State)
	}
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
