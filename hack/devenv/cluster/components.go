package cluster

// component is one long-running program of the node.
type component struct {
	name string
	argv []string
	// afterAPI holds it back until the API server is ready: started earlier it would only fail and wait out its own backoff.
	afterAPI bool
}

// components lists what runs in the node, in the order of the starts. Paths are relative to the node's folder.
func components() []component {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return []component{
		{name: "containerd", argv: []string{"containerd", "-c", "containerd.toml"}},
		{name: "etcd", argv: []string{
			"etcd", "--data-dir", "etcd",
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer,
			"--unsafe-no-fsync", // a node is made anew after a crash of the machine
		}},
		{name: "kube-apiserver", argv: []string{
			"kube-apiserver", "--etcd-servers=" + client, "--advertise-address=" + nodeIP, "--secure-port=" + apiPort,
			"--tls-cert-file=pki/apiserver.crt", "--tls-private-key-file=pki/apiserver.key", "--client-ca-file=pki/ca.crt",
			"--service-account-key-file=pki/sa.pub", "--service-account-signing-key-file=pki/sa.key",
			"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=" + serviceCIDR,
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
			"--kubelet-client-certificate=pki/admin.crt", "--kubelet-client-key=pki/admin.key",
			"--kubelet-certificate-authority=pki/ca.crt", "--kubelet-preferred-address-types=InternalIP", // for logs and exec
			"--requestheader-client-ca-file=pki/ca.crt", "--requestheader-allowed-names=aggregator",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=pki/aggregator.crt", "--proxy-client-key-file=pki/aggregator.key",
		}},
		{name: "kube-controller-manager", afterAPI: true, argv: []string{
			"kube-controller-manager", "--kubeconfig=admin.kubeconfig", "--service-account-private-key-file=pki/sa.key",
			"--root-ca-file=pki/ca.crt", "--cluster-signing-cert-file=pki/ca.crt", "--cluster-signing-key-file=pki/ca.key",
			"--use-service-account-credentials", "--cluster-cidr=" + podCIDR, "--leader-elect=false",
			"--kube-api-qps=500", "--kube-api-burst=1000", // or its own start is throttled for seconds
			"--horizontal-pod-autoscaler-sync-period=5s", // tests wait for it
		}},
		{name: "kube-scheduler", afterAPI: true, argv: []string{"kube-scheduler", "--kubeconfig=admin.kubeconfig", "--leader-elect=false"}},
		{name: "kubelet", afterAPI: true, argv: []string{
			"kubelet", "--kubeconfig=kubelet.kubeconfig", "--config=kubelet.yaml", "--hostname-override=" + nodeName, "--node-ip=" + nodeIP,
		}},
		{name: "kube-proxy", afterAPI: true, argv: []string{
			"kube-proxy", "--kubeconfig=admin.kubeconfig", "--hostname-override=" + nodeName, "--proxy-mode=iptables",
			"--cluster-cidr=" + podCIDR, "--conntrack-max-per-core=0", // the limit belongs to the machine
		}},
	}
}
