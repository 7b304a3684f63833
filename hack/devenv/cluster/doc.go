// Package cluster runs a real Kubernetes for development and tests. With a Docker engine it is kind's; without one it is a node of
// our own on Linux: control plane, kubelet, kube-proxy and CoreDNS built from Go modules, on containerd and runc, as PID 1 of its own
// mount, pid, network, uts and ipc namespaces, like a kind node without the container. One kill of that PID ends all of it.
//
// Nothing in the host's network changes. The node's network namespace has no way out; a forwarder joins the two at two points only:
// pods reach a server of the host at the node's address and the server's own port, and the host reaches the API server and chosen
// Services at ports of 127.0.0.1.
package cluster
