package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What can go wrong, beside http_404 and the like, which name the answer's status.
const (
	CodeInvalidURL       = "invalid_url"
	CodeBlockedAddress   = "blocked_address"
	CodeBlockedPort      = "blocked_port"
	CodeDNS              = "dns"
	CodeUnreachable      = "unreachable"
	CodeTLS              = "tls"
	CodeTimeout          = "timeout"
	CodeTooLarge         = "too_large"
	CodeTooManyRedirects = "too_many_redirects"
	CodeUnsupportedType  = "unsupported_type"
	CodeBadResponse      = "bad_response"
	CodeRobots           = "robots"
	CodeRobotsUnknown    = "robots_unavailable"
)

// Error is why a page could not be had. Its text is shown to users, so it says nothing about addresses that a name has inside a network.
type Error struct {
	Code string
	// Retry tells that another attempt, later, may end otherwise; RetryAfter is when at the earliest, if the server said so.
	Retry      bool
	RetryAfter time.Duration
	Message    string
	cause      error
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, for logs.
func (e *Error) Unwrap() error { return e.cause }

func permanent(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func temporary(code, message string, cause error) *Error {
	return &Error{Code: code, Message: message, Retry: true, cause: cause}
}

// maxRetryAfter bounds what a server can ask for.
const maxRetryAfter = time.Hour

// statusError is the error of an answer that is no page.
func statusError(res *http.Response) *Error {
	e := permanent("http_"+strconv.Itoa(res.StatusCode), "the server answered %d", res.StatusCode)
	switch res.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Retry = true
		if seconds, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 31); err == nil {
			e.RetryAfter = min(time.Duration(seconds)*time.Second, maxRetryAfter)
		}
	}
	return e
}

// failed tells what an error of a request means.
func failed(err error) error {
	var known *Error
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var timeout net.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &dns) && dns.IsNotFound:
		return &Error{Code: CodeDNS, Message: "the host has no address", cause: err}
	case errors.As(err, &dns):
		return temporary(CodeDNS, "the host's address could not be looked up", err)
	case errors.As(err, &certificate):
		return &Error{Code: CodeTLS, Message: "the server's certificate is not valid for the host", cause: err}
	case errors.As(err, &record), errors.As(err, &alert):
		return &Error{Code: CodeTLS, Message: "the server does not speak TLS as it should", cause: err}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return temporary(CodeTimeout, "the server took too long", err)
	case errors.Is(err, context.Canceled):
		return err
	}
	if known := badHead(err); known != nil {
		return known
	}
	return temporary(CodeUnreachable, "the server could not be reached, or broke off", err)
}

// badHead is the error of an answer whose head can't be read, however often it is asked for; nil for others. It goes by their texts, as net/http gives
// these errors no types. A large head over HTTP/2 is either, as it depends on the head's parts whether the connection reads to its end.
func badHead(err error) *Error {
	says := func(text string) bool { return strings.Contains(err.Error(), text) }
	switch {
	case says("server response headers exceeded"), says("response header list larger than"):
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("the head of the server's answer has more than %d bytes", maxHead), cause: err}
	case says("connection error: PROTOCOL_ERROR"), says("connection error: COMPRESSION_ERROR"):
		return &Error{
			Code: CodeBadResponse, Message: fmt.Sprintf("the server does not speak HTTP/2 as it should, or the head of its answer has far more than %d bytes", maxHead), cause: err,
		}
	}
	return nil
}
