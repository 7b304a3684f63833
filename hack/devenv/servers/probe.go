package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// probe asks a server once whether it can do its work.
type probe func(ctx context.Context) error

// await repeats a probe until it succeeds or the time is up. When the server is a process of ours, its end ends the wait.
func await(ctx context.Context, limit time.Duration, ask probe, p *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		attempt, done := context.WithTimeout(ctx, 3*time.Second)
		err := ask(attempt)
		done()
		if err == nil {
			return nil
		}
		if p != nil && !p.Alive() {
			return errEnded
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", limit, err)
		case <-tick.C:
		}
	}
}

// errEnded says that a process ended while it was waited for. One that was found running may just have been killed: it
// is started anew then.
var errEnded = errors.New("it has ended before it was ready")

// attached waits for a server that was running already.
func (u *up) attached(ctx context.Context, p *process.Progress, running *process.Process, ask probe) error {
	if err := await(ctx, readyTimeout, ask, running); err != nil {
		return u.State.WithLog(running.Name, fmt.Errorf("pid %d: %w", running.PID, err))
	}
	p.Outcome("already running")
	return nil
}

// started waits for a server that was just started, and ends it again when it doesn't get ready.
func (u *up) started(ctx context.Context, server *process.Process, ask probe) error {
	err := await(ctx, readyTimeout, ask, server)
	if err == nil {
		return nil
	}
	err = u.State.WithLog(server.Name, err)
	return errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
}

func probePostgres(databaseURL string) probe {
	return func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, databaseURL)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		_, err = conn.Exec(ctx, "SELECT 1")
		return err
	}
}

func probeKafka(brokers string) probe {
	return func(context.Context) error {
		cfg := sarama.NewConfig()
		cfg.ClientID = "atlas-devenv"
		cfg.Net.DialTimeout, cfg.Net.ReadTimeout, cfg.Net.WriteTimeout = time.Second, 2*time.Second, 2*time.Second
		cfg.Metadata.Retry.Max = 0
		client, err := sarama.NewClient(strings.Split(brokers, ","), cfg)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		if len(client.Brokers()) == 0 {
			return errors.New("the cluster has no brokers yet")
		}
		_, err = client.Controller()
		return err
	}
}

// probeElasticsearch uses the credentials that the services would use, when there are any.
func probeElasticsearch(address string, getenv func(string) string) probe {
	return func(ctx context.Context) error {
		first, _, _ := strings.Cut(address, ",")
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(first, "/")+"/_cluster/health?wait_for_status=yellow&timeout=2s", nil)
		if err != nil {
			return err
		}
		if key := getenv("ELASTICSEARCH_API_KEY"); key != "" {
			req.Header.Set("Authorization", "ApiKey "+key)
		} else if user := getenv("ELASTICSEARCH_USERNAME"); user != "" {
			req.SetBasicAuth(user, getenv("ELASTICSEARCH_PASSWORD"))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
			return fmt.Errorf("cluster health: %s: %s", resp.Status, body)
		}
		return nil
	}
}

// external checks a server that the user runs. Where its address is this host's loopback, pods get it through a forwarder.
func external(ctx context.Context, p *process.Progress, variable, address string, ask probe) (endpoint, error) {
	if err := await(ctx, 10*time.Second, ask, nil); err != nil {
		return endpoint{}, fmt.Errorf("the server given by %s: %w; unset %s to have one started", variable, err, variable)
	}
	p.Outcome("given by %s", variable)
	return givenEndpoint(variable, address), nil
}

// givenEndpoint says how the node's pods reach an address that the user gave, or why they can't.
func givenEndpoint(variable, address string) endpoint {
	e := endpoint{host: address, node: address, how: variable}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" { // host:port of a Kafka broker
		// A forwarder does not help: the broker tells its clients the address that it advertises, which is not the node's.
		e.unreachable = variable + "=" + address + ": a Kafka of your own advertises an address that the node's pods can't reach"
		return e
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil || !isLoopback(u.Hostname()) {
		e.unreachable = variable + " (" + u.Host + "): the node has no way out of this machine; only 127.0.0.1 with a port is forwarded to its pods"
		return e
	}
	e.ports = []int{port}
	u.Host = net.JoinHostPort(NodeAddress, u.Port())
	e.node = u.String()
	return e
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func atNode(port int) string { return net.JoinHostPort(NodeAddress, strconv.Itoa(port)) }

func onHost(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
