package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPKI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, writePKI(dir))
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca))

	for _, tc := range []struct {
		file, name, organization string
		hosts                    []string
	}{
		{file: "apiserver", name: "kube-apiserver", hosts: []string{nodeIP, "127.0.0.1", apiClusterIP, "localhost", "kubernetes.default.svc"}},
		{file: "admin", name: "admin", organization: "system:masters"},
		{file: "kubelet", name: "system:node:node", organization: "system:nodes", hosts: []string{nodeIP, nodeName}},
		{file: "aggregator", name: "aggregator"},
		{file: "metrics-server", name: "metrics-server", hosts: []string{"metrics-server.kube-system.svc"}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, tc.file)
			pair, err := tls.LoadX509KeyPair(path+".crt", path+".key") // fails when the key isn't the certificate's
			require.NoError(t, err)
			for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
				_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}})
				require.NoError(t, err)
			}
			require.Equal(t, tc.name, pair.Leaf.Subject.CommonName)
			if tc.organization != "" {
				require.Equal(t, []string{tc.organization}, pair.Leaf.Subject.Organization)
			}
			for _, h := range tc.hosts {
				require.NoError(t, pair.Leaf.VerifyHostname(h))
			}
			info, err := os.Stat(path + ".key")
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		})
	}
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, writePKI(dir))
	path := filepath.Join(dir, "kubeconfig")
	require.NoError(t, writeKubeconfig(path, "https://127.0.0.1:1", dir, "admin"))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds an administrator's key")

	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var got struct {
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			}
		}
		Clusters []struct{ Cluster struct{ Server string } }
	}
	require.NoError(t, json.Unmarshal(content, &got))
	require.Equal(t, "https://127.0.0.1:1", got.Clusters[0].Cluster.Server)
	_, err = tls.X509KeyPair(got.Users[0].User.Cert, got.Users[0].User.Key)
	require.NoError(t, err)
}
