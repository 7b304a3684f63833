package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is long enough for any development node, which is made anew after each reboot.
const validity = 365 * 24 * time.Hour

// certificate says for whom and for which addresses one certificate is. Each of them serves clients and servers.
type certificate struct {
	file         string // without .crt and .key
	commonName   string
	organization []string
	dns          []string
	ips          []net.IP
}

func certificates() []certificate {
	node := net.ParseIP(nodeIP)
	return []certificate{
		{
			file: "apiserver", commonName: "kube-apiserver",
			dns: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			ips: []net.IP{node, net.IPv4(127, 0, 0, 1), net.ParseIP(apiClusterIP)},
		},
		{file: "admin", commonName: "admin", organization: []string{"system:masters"}},
		{
			file: "kubelet", commonName: "system:node:" + nodeName, organization: []string{"system:nodes"},
			dns: []string{nodeName}, ips: []net.IP{node},
		},
		{file: "aggregator", commonName: "aggregator"},
		metricsCertificate(),
	}
}

// authority signs certificates and remembers its own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// writePKI makes a new certificate authority, its certificates and the service account key pair in dir.
func writePKI(dir string) error {
	ca, err := newAuthority(dir)
	if err != nil {
		return fmt.Errorf("make the certificate authority: %w", err)
	}
	for _, c := range certificates() {
		if err := ca.issue(dir, c); err != nil {
			return fmt.Errorf("issue the certificate %s: %w", c.file, err)
		}
	}
	sa, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(&sa.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", pub); err != nil {
		return err
	}
	return writeKey(filepath.Join(dir, "sa.key"), sa)
}

func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl, err := unsigned(pkix.Name{CommonName: "atlas-devenv-ca"})
	if err != nil {
		return nil, err
	}
	tmpl.IsCA, tmpl.BasicConstraintsValid = true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	cert, err := sign(filepath.Join(dir, "ca"), tmpl, tmpl, key, key)
	return &authority{cert: cert, key: key}, err
}

func (a *authority) issue(dir string, c certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl, err := unsigned(pkix.Name{CommonName: c.commonName, Organization: c.organization})
	if err != nil {
		return err
	}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	tmpl.DNSNames, tmpl.IPAddresses = c.dns, c.ips
	_, err = sign(filepath.Join(dir, c.file), tmpl, a.cert, key, a.key)
	return err
}

func unsigned(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validity), // an hour back: clocks of virtual machines jump
	}, nil
}

func sign(path string, tmpl, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	if err := writePEM(path+".crt", "CERTIFICATE", der); err != nil {
		return nil, err
	}
	if err := writeKey(path+".key", key); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
