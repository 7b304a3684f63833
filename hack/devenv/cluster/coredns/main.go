// Command coredns is CoreDNS with only the plugins that a cluster's DNS needs, which keeps the program small and its build short.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order in which plugins see a query. Unlike upstream's, template comes after kubernetes: it answers what kubernetes left over.
	dnsserver.Directives = []string{"health", "ready", "errors", "cache", "loadbalance", "kubernetes", "template"}
	coremain.Run()
}
