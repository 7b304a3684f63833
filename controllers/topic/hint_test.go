package topic_test

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// listen answers every connection, once something has come over it, and closes it.
func listen(t *testing.T, answer []byte, reset bool) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadAtLeast(conn, make([]byte, 4096), 1)
			_, _ = conn.Write(answer)
			if tcp, ok := conn.(*net.TCPConn); ok && reset {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

// TestAnotherListenerThanTheSpecSays is told in words, with the way out, and in the same ones each time.
func TestAnotherListenerThanTheSpecSays(t *testing.T) {
	t.Parallel()
	// A server of TLS tells a client without it by an alert, or says nothing and closes the connection.
	alert := []byte{21, 3, 3, 0, 2, 2, 70}
	secure := httptest.NewUnstartedServer(nil)
	secure.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, tc := range []struct {
		name, broker, want string
		security           kafka.Security
	}{
		{"TLS to plaintext, closed", listen(t, nil, false), "the broker ended the TLS handshake: if its listener is a plaintext one", kafka.Security{TLS: true}},
		{"TLS to plaintext, reset", listen(t, nil, true), "the broker ended the TLS handshake: if its listener is a plaintext one", kafka.Security{TLS: true}},
		{"TLS to something else", listen(t, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), false), "the broker ended the TLS handshake", kafka.Security{TLS: true}},
		{"plaintext to TLS, an alert", listen(t, alert, false), "set spec.kafka.tls or spec.kafka.sasl", kafka.Security{}},
		{"plaintext to something else", listen(t, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), false), "set spec.kafka.tls or spec.kafka.sasl", kafka.Security{}},
		{"plaintext to TLS, closed", listen(t, nil, false), "set spec.kafka.tls or spec.kafka.sasl", kafka.Security{}},
		{"plaintext to TLS, reset", listen(t, nil, true), "set spec.kafka.tls or spec.kafka.sasl", kafka.Security{}},
		{"a login to TLS", listen(t, nil, true), "if its listener wants TLS, set spec.kafka.tls,", kafka.Security{Mechanism: "PLAIN", Username: "u", Password: "p"}},
		{"another authority", secure.Listener.Addr().String(), "name the one that signed it in spec.kafka.tls.caFrom", kafka.Security{TLS: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var before string
			told := 0
			for range 10 {
				_, err := topic.ConnectSarama(t.Context(), topic.Target{Brokers: []string{tc.broker}, Security: tc.security})
				waiting, ok := apply.AsWaiting(err)
				require.True(t, ok, "%v", err)
				require.True(t, waiting.Lost)
				require.Contains(t, waiting.Message, "could not reach Kafka at "+tc.broker+": ")
				if strings.Contains(waiting.Message, ": timed out: ") {
					continue // the machine was too busy to answer in time
				}
				require.Contains(t, waiting.Message, tc.want)
				require.True(t, before == "" || before == waiting.Message, "%s, then %s", before, waiting.Message)
				before = waiting.Message
				if told++; told == 3 {
					return
				}
			}
			t.Fatal("it always takes too long")
		})
	}
}

// TestTLSToARealPlaintextListener is what a real broker does.
func TestTLSToARealPlaintextListener(t *testing.T) {
	t.Parallel()
	brokers := strings.Split(testenv.Require(t, testenv.KafkaBrokers), ",")
	_, err := topic.ConnectSarama(t.Context(), topic.Target{Brokers: brokers, Security: kafka.Security{TLS: true}})
	waiting, ok := apply.AsWaiting(err)
	require.True(t, ok, "%v", err)
	require.Contains(t, waiting.Message, "remove spec.kafka.tls")
}
