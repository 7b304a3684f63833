package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/atlas-platform/atlas/hack/devenv/process"
)

// writeKubeconfig writes a kubeconfig (JSON, which is YAML too) for the holder of one of the certificates, readable by its owner only.
func writeKubeconfig(path, server, pki, holder string) error {
	var data [3][]byte
	for i, f := range []string{"ca.crt", holder + ".crt", holder + ".key"} {
		content, err := os.ReadFile(filepath.Join(pki, f))
		if err != nil {
			return err
		}
		data[i] = content // encoding/json writes []byte in base64, as kubeconfig wants it
	}
	type object = map[string]any
	content, err := json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": clusterName,
		"clusters": []object{{"name": clusterName, "cluster": object{"server": server, "certificate-authority-data": data[0]}}},
		"users":    []object{{"name": holder, "user": object{"client-certificate-data": data[1], "client-key-data": data[2]}}},
		"contexts": []object{{"name": clusterName, "context": object{"cluster": clusterName, "user": holder}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return process.WriteFile(path, append(content, '\n'), 0o600)
}
