//go:build linux

package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// proxyBundle is one link between a process and a server that can be cut.
type proxyBundle struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// newProxy starts a proxy; it listens on any port when listen is empty.
func newProxy(t testing.TB, name, listen, upstream string) *proxyBundle {
	t.Helper()
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, name, listen, upstream)
	require.NoError(t, p.Start())
	t.Cleanup(p.Stop)
	return &proxyBundle{t: t, proxy: p}
}

func (p *proxyBundle) address() string { return p.proxy.Listen }

// partition lets nothing through in either direction, and tells nobody: as a network does that is gone. Connections can still be made.
func (p *proxyBundle) partition() {
	for _, direction := range []string{"upstream", "downstream"} {
		p.add(fmt.Sprintf(`{"name": "cut-%[1]s", "type": "timeout", "stream": "%[1]s", "attributes": {"timeout": 0}}`, direction))
	}
}

// deaf lets nothing come back, and tells nobody.
func (p *proxyBundle) deaf() {
	p.add(`{"name": "deaf", "type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`)
}

// slow delays everything that goes through.
func (p *proxyBundle) slow() {
	p.add(`{"name": "slow", "type": "latency", "stream": "downstream", "attributes": {"latency": 300, "jitter": 250}}`)
}

// delay keeps everything that is sent upstream for so long.
func (p *proxyBundle) delay(length time.Duration) {
	p.add(fmt.Sprintf(`{"name": "late", "type": "latency", "stream": "upstream", "attributes": {"latency": %d}}`, length.Milliseconds()))
}

func (p *proxyBundle) add(toxic string) {
	_, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic))
	require.NoError(p.t, err)
}

// heal undoes partition and slow.
func (p *proxyBundle) heal() { p.proxy.Toxics.ResetToxics(context.Background()) }

// reset ends all connections, and refuses new ones until accept.
func (p *proxyBundle) reset() { p.proxy.Stop() }

func (p *proxyBundle) accept() { require.NoError(p.t, p.proxy.Start()) }
