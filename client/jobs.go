package client

import (
	"encoding/json"
	"fmt"
)

// NewJob is the request for a job of a type, such as reindex, with that type's parameters: a ReindexParameters, or whatever is the same as JSON.
// A request with more than these is made by options, or by JobCreate's From methods.
func NewJob(jobType string, parameters any, options ...JobOption) (JobCreate, error) {
	var request JobCreate
	body := map[string]any{"type": jobType, "parameters": parameters}
	for _, option := range options {
		option(body)
	}
	content, err := json.Marshal(body)
	if err == nil {
		err = request.UnmarshalJSON(content)
	}
	if err != nil {
		return request, fmt.Errorf("encode the parameters of a job: %w", err)
	}
	return request, nil
}

// JobOption is a part of a request for a job that jobs of every type have.
type JobOption func(body map[string]any)

// WithPriority lets a job go before others that wait, or after them.
func WithPriority(priority JobPriority) JobOption {
	return func(body map[string]any) { body["priority"] = priority }
}

// WithMaxAttempts says how often a job is tried.
func WithMaxAttempts(attempts JobMaxAttempts) JobOption {
	return func(body map[string]any) { body["max_attempts"] = attempts }
}
