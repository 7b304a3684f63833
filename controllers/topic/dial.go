package topic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	dialTimeout = 3 * time.Second
	// sessionTimeout bounds everything done over one Admin. Sarama knows no contexts and multiplies its timeouts by its
	// retries, so a broker that accepts connections and then says nothing would hold up the stack for minutes.
	sessionTimeout = 5 * time.Second
)

// dial returns the brokers that accept a connection, or an error that says for each why it does not.
func dial(ctx context.Context, brokers []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	failures := make([]error, len(brokers))
	var group sync.WaitGroup
	for i, broker := range brokers {
		group.Go(func() {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", broker)
			if err == nil {
				_ = conn.Close()
			}
			failures[i] = err
		})
	}
	group.Wait()

	var reachable, reasons []string
	for i, broker := range brokers {
		if failures[i] == nil {
			reachable = append(reachable, broker)
			continue
		}
		reasons = append(reasons, fmt.Sprintf("%s (%s)", broker, reason(failures[i])))
	}
	if len(reachable) == 0 {
		return nil, lost("no Kafka broker can be reached: " + strings.Join(reasons, ", ") + wayOut)
	}
	return reachable, nil
}

// reason leaves out what differs between attempts, such as the local port, so that a condition does not change.
func reason(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "no such host"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		if op.Timeout() {
			return "timed out"
		}
		return op.Err.Error()
	}
	return err.Error()
}

// sessionDialer gives every connection one deadline that no other can exceed.
type sessionDialer struct{ deadline time.Time }

// Dial is what sarama calls.
func (d sessionDialer) Dial(network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout, Deadline: d.deadline}
	conn, err := dialer.Dial(network, address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return &sessionConn{Conn: conn, deadline: d.deadline}, nil
}

type sessionConn struct {
	net.Conn

	deadline time.Time
}

func (c *sessionConn) limit(t time.Time) time.Time {
	if t.IsZero() || t.After(c.deadline) {
		return c.deadline
	}
	return t
}

// SetDeadline implements net.Conn.
func (c *sessionConn) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(c.limit(t)) }

// SetReadDeadline implements net.Conn.
func (c *sessionConn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.limit(t)) }

// SetWriteDeadline implements net.Conn.
func (c *sessionConn) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(c.limit(t)) }
