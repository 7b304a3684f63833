package fetch

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxRobotsRedirects is how many redirects of a robots.txt are followed (RFC 9309, 2.3.1.2).
	maxRobotsRedirects = 5
	// robotsRetry is how long a robots.txt that could not be had is not asked for again.
	robotsRetry = time.Minute
)

// mayAsk refuses a URL that the host's robots.txt keeps crawlers from, which it gets first where it is not known. The caller has the host's turn.
func (f *Fetcher) mayAsk(ctx context.Context, one *host, u *url.URL) error {
	if now := time.Now(); now.After(one.robotsUntil) {
		one.robots, one.robotsErr = f.robots(ctx, u)
		if one.robotsErr != nil && ctx.Err() != nil { // which may be the time that other hosts took: nothing is known of this one
			return one.robotsErr
		}
		one.robotsUntil = now.Add(f.cfg.RobotsTTL)
		if one.robotsErr != nil {
			one.robotsUntil = now.Add(robotsRetry)
		}
	}
	if one.robotsErr != nil {
		return one.robotsErr
	}
	if !one.robots.allows(u) {
		return permanent(CodeRobots, "the host's robots.txt does not let crawlers get the page")
	}
	return nil
}

// robots gets a host's robots.txt. Where there is none everything is allowed; a server that fails has its say later.
func (f *Fetcher) robots(ctx context.Context, of *url.URL) (rules, error) {
	u := &url.URL{Scheme: of.Scheme, Host: of.Host, Path: "/robots.txt"}
	for range maxRobotsRedirects + 1 {
		found, next, err := f.robotsAt(ctx, u)
		if err != nil || next == "" {
			return found, err
		}
		if u, err = f.cfg.Policy.target(next); err != nil {
			return rules{}, err
		}
	}
	return rules{}, nil // RFC 9309, 2.3.1.2: as if there were none
}

func (f *Fetcher) robotsAt(ctx context.Context, u *url.URL) (_ rules, next string, err error) {
	res, err := f.get(ctx, u, http.Header{"Accept": {"text/plain"}})
	if err != nil {
		return rules{}, "", failed(err)
	}
	defer func() { _ = res.Body.Close() }()
	next, redirected, err := redirect(u, res)
	switch {
	case redirected:
		return rules{}, next, nil
	case err != nil, res.StatusCode >= 400 && res.StatusCode < 500:
		return rules{}, "", nil
	case res.StatusCode < 200 || res.StatusCode > 299:
		return nobody, "", temporary(CodeRobotsUnknown, "the host's robots.txt can't be had now, so it is not known what crawlers may get", nil)
	case res.Header.Get("Content-Encoding") != "":
		return rules{}, "", nil // nobody can read it
	}
	content, err := io.ReadAll(io.LimitReader(res.Body, maxRobots))
	if err != nil {
		return nobody, "", failed(err)
	}
	return parseRobots(content, productOf(Product)), "", nil
}
