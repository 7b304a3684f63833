package workloads_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// plainStack sets what is required, with the defaults that the API server would add.
func plainStack() *v1alpha1.AtlasStack {
	one := v1alpha1.ComponentSpec{Replicas: ptr.To(int32(1))}
	return &v1alpha1.AtlasStack{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "platform", UID: "11111111-2222-3333-4444-555555555555"},
		Spec: v1alpha1.AtlasStackSpec{
			Image:    "registry.example.com/atlas:1.2.3",
			LogLevel: "info",
			Postgres: v1alpha1.PostgresSpec{URLSecretRef: corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "postgres"}, Key: "url",
			}},
			Kafka: v1alpha1.KafkaSpec{
				Brokers: []string{"kafka-0:9092", "kafka-1:9092"},
				Topic:   v1alpha1.TopicSpec{Name: "atlas.domain-events.v1", Partitions: 6, ReplicationFactor: 1},
			},
			Elasticsearch: v1alpha1.ElasticsearchSpec{
				Addresses: []string{"http://elasticsearch:9200"},
				Index: v1alpha1.IndexSpec{
					Alias: "atlas-items", Shards: 1, Replicas: ptr.To(int32(0)),
					RefreshInterval: &metav1.Duration{Duration: time.Second},
				},
			},
			Auth: v1alpha1.AuthSpec{Admin: v1alpha1.AdminSpec{Email: "admin@atlas.local"}},
			API:  one, Indexer: one, Audit: one, Worker: one,
			Migration: v1alpha1.MigrationSpec{TimeoutSeconds: ptr.To(int64(600)), BackoffLimit: ptr.To(int32(2))},
		},
	}
}

func plainInputs() workloads.Inputs {
	return workloads.Inputs{
		workloads.DatabaseURL: []byte("postgres://u:p@h/d"), workloads.SigningKey: []byte("key"), workloads.AdminPassword: []byte("secret"),
	}
}

// fullStack sets everything that changes what is built.
func fullStack() (*v1alpha1.AtlasStack, workloads.Inputs) {
	stack := plainStack()
	stack.Spec.ImagePullPolicy = corev1.PullAlways
	stack.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	stack.Spec.LogLevel = "debug"
	stack.Spec.Elasticsearch.CredentialsSecretRef = &corev1.LocalObjectReference{Name: "elastic"}
	stack.Spec.Auth.SigningKeySecretRef = &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}, Key: "ed25519.pem",
	}
	stack.Spec.Auth.Admin.PasswordSecretRef = &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "login"}, Key: "pw",
	}
	stack.Spec.API = v1alpha1.ComponentSpec{Replicas: ptr.To(int32(3)), Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
	}}
	stack.Spec.Postgres.CAFrom = &v1alpha1.CASource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "postgres"}, Key: "ca.crt",
	}}
	stack.Spec.Postgres.MaxConnections = ptr.To(int32(20))
	stack.Spec.Kafka.TLS = &v1alpha1.KafkaTLSSpec{
		CAFrom: &v1alpha1.CASource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "cas"}, Key: "kafka.pem",
		}},
		ClientCertificateSecretRef: &corev1.LocalObjectReference{Name: "kafka-client"},
	}
	stack.Spec.Kafka.SASL = &v1alpha1.KafkaSASLSpec{Mechanism: "SCRAM-SHA-512", CredentialsSecretRef: corev1.LocalObjectReference{Name: "kafka-user"}}
	stack.Spec.Elasticsearch.CAFrom = &v1alpha1.CASource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "elastic"}, Key: "ca.crt",
	}}
	stack.Spec.ObjectStore = &v1alpha1.ObjectStoreSpec{
		URL: "s3://atlas/files?region=eu-central-1", CredentialsSecretRef: &corev1.LocalObjectReference{Name: "s3"},
	}
	inputs := plainInputs()
	for _, input := range []workloads.Input{
		workloads.DatabaseCA, workloads.KafkaCA, workloads.KafkaCertificate, workloads.KafkaKey, workloads.KafkaUsername, workloads.KafkaPassword,
		workloads.ElasticsearchCA, workloads.ElasticsearchUsername, workloads.ElasticsearchPassword,
		workloads.ObjectsAccessKey, workloads.ObjectsSecretKey,
	} {
		inputs[input] = []byte(input)
	}
	return stack, inputs
}

// objects are everything that a stack gets, in one YAML stream.
func objects(t *testing.T, stack *v1alpha1.AtlasStack, inputs workloads.Inputs) []byte {
	t.Helper()
	var all []any
	for _, role := range workloads.Roles() {
		deployment, err := workloads.Deployment(stack, role, inputs)
		require.NoError(t, err)
		all = append(all, workloads.ServiceAccount(stack, role), workloads.Service(stack, role), deployment)
	}
	digest, err := workloads.MigrationInputs(stack, inputs)
	require.NoError(t, err)
	all = append(all, workloads.ServiceAccount(stack, workloads.RoleMigrate), workloads.MigrationJob(stack, inputs, digest, 1))
	var out bytes.Buffer
	for _, object := range all {
		doc, err := yaml.Marshal(object)
		require.NoError(t, err)
		out.WriteString("---\n")
		out.Write(doc)
	}
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	full, fullInputs := fullStack()
	for _, tc := range []struct {
		name   string
		stack  *v1alpha1.AtlasStack
		inputs workloads.Inputs
	}{
		{name: "plain", stack: plainStack(), inputs: plainInputs()},
		{name: "full", stack: full, inputs: fullInputs},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := objects(t, tc.stack, tc.inputs)
			file := filepath.Join("testdata", tc.name+".yaml")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				require.NoError(t, os.WriteFile(file, got, 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err, "UPDATE_GOLDEN=1 go test writes it")
			require.Equal(t, string(want), string(got), "if this change is meant, UPDATE_GOLDEN=1 go test accepts it")
		})
	}
}

func TestConfigHashFollowsWhatTheRoleUses(t *testing.T) {
	t.Parallel()
	stack, inputs := fullStack()
	for _, tc := range []struct {
		name   string
		change func(*v1alpha1.AtlasStack, workloads.Inputs)
		rolls  []workloads.Role
	}{
		{name: "nothing", change: func(*v1alpha1.AtlasStack, workloads.Inputs) {}},
		{name: "database", change: func(_ *v1alpha1.AtlasStack, s workloads.Inputs) { s[workloads.DatabaseURL] = []byte("x") }, rolls: workloads.Roles()},
		{name: "signing key", change: func(_ *v1alpha1.AtlasStack, s workloads.Inputs) { s[workloads.SigningKey] = []byte("x") }, rolls: []workloads.Role{workloads.RoleAPI}},
		{name: "admin password", change: func(_ *v1alpha1.AtlasStack, s workloads.Inputs) { s[workloads.AdminPassword] = []byte("x") }},
		{
			name: "elasticsearch password",
			change: func(_ *v1alpha1.AtlasStack, s workloads.Inputs) {
				s[workloads.ElasticsearchPassword] = []byte("x")
			},
			rolls: []workloads.Role{workloads.RoleAPI, workloads.RoleIndexer, workloads.RoleWorker},
		},
		{
			name:   "key of the object store",
			change: func(_ *v1alpha1.AtlasStack, s workloads.Inputs) { s[workloads.ObjectsSecretKey] = []byte("x") },
			rolls:  []workloads.Role{workloads.RoleAPI, workloads.RoleWorker},
		},
		{
			name:   "brokers",
			change: func(s *v1alpha1.AtlasStack, _ workloads.Inputs) { s.Spec.Kafka.Brokers = []string{"other:9092"} },
			rolls:  []workloads.Role{workloads.RoleAPI, workloads.RoleIndexer, workloads.RoleAudit},
		},
		{name: "replicas", change: func(s *v1alpha1.AtlasStack, _ workloads.Inputs) { s.Spec.API.Replicas = ptr.To(int32(9)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			changed, changedInputs := stack.DeepCopy(), maps.Clone(inputs)
			tc.change(changed, changedInputs)
			var rolls []workloads.Role
			for _, role := range workloads.Roles() {
				before, err := workloads.ConfigHash(stack, role, inputs)
				require.NoError(t, err)
				after, err := workloads.ConfigHash(changed, role, changedInputs)
				require.NoError(t, err)
				if before != after {
					rolls = append(rolls, role)
				}
			}
			require.Equal(t, tc.rolls, rolls)
		})
	}
}

func TestMigrationInputs(t *testing.T) {
	t.Parallel()
	stack, inputs := plainStack(), plainInputs()
	base, err := workloads.MigrationInputs(stack, inputs)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		change func(*v1alpha1.AtlasStack, workloads.Inputs)
		reruns bool
	}{
		"image":          {func(s *v1alpha1.AtlasStack, _ workloads.Inputs) { s.Spec.Image = "atlas:2" }, true},
		"database":       {func(_ *v1alpha1.AtlasStack, s workloads.Inputs) { s[workloads.DatabaseURL] = []byte("x") }, true},
		"admin password": {func(_ *v1alpha1.AtlasStack, s workloads.Inputs) { s[workloads.AdminPassword] = []byte("x") }, true},
		"admin email":    {func(s *v1alpha1.AtlasStack, _ workloads.Inputs) { s.Spec.Auth.Admin.Email = "a@b" }, true},
		"signing key":    {func(_ *v1alpha1.AtlasStack, s workloads.Inputs) { s[workloads.SigningKey] = []byte("x") }, false},
		"log level":      {func(s *v1alpha1.AtlasStack, _ workloads.Inputs) { s.Spec.LogLevel = "debug" }, false},
	} {
		changed, changedInputs := stack.DeepCopy(), maps.Clone(inputs)
		tc.change(changed, changedInputs)
		digest, err := workloads.MigrationInputs(changed, changedInputs)
		require.NoError(t, err)
		require.Equal(t, tc.reruns, digest != base, name)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"atlas:1.2":                      "1.2",
		"localhost:5000/atlas:1.2":       "1.2",
		"localhost:5000/atlas@sha256:ab": "sha256:ab",
		"atlas:1.2@sha256:ab":            "1.2",
	} {
		require.Equal(t, want, workloads.Version(&v1alpha1.AtlasStackSpec{Image: image}), image)
		require.Equal(t, "2026-11", workloads.Version(&v1alpha1.AtlasStackSpec{Image: image, Version: "2026-11"}), image)
	}
}

// TestVersionRollsNothing: the name of a version is in no pod and in no migration.
func TestVersionRollsNothing(t *testing.T) {
	t.Parallel()
	objects := func(version string) []any {
		stack := plainStack()
		stack.Spec.Version = version
		inputs := plainInputs()
		migration, err := workloads.MigrationInputs(stack, inputs)
		require.NoError(t, err)
		out := []any{migration}
		for _, role := range workloads.Roles() {
			deployment, err := workloads.Deployment(stack, role, inputs)
			require.NoError(t, err)
			out = append(out, deployment)
		}
		return out
	}
	require.Equal(t, objects(""), objects("2026-11"))
}

// TestVolumeOfFiles: the API and the worker have the same one.
func TestVolumeOfFiles(t *testing.T) {
	t.Parallel()
	stack := plainStack()
	stack.Spec.ObjectStore = &v1alpha1.ObjectStoreSpec{VolumeClaimName: "files"}
	for _, role := range workloads.Roles() {
		deployment, err := workloads.Deployment(stack, role, plainInputs())
		require.NoError(t, err)
		built, err := yaml.Marshal(deployment)
		require.NoError(t, err)
		if role != workloads.RoleAPI && role != workloads.RoleWorker {
			require.NotContains(t, string(built), "objects")
			continue
		}
		require.Contains(t, string(built), "name: OBJECT_STORE_URL\n          value: file:///var/lib/atlas/objects\n")
		require.Contains(t, string(built), "- mountPath: /var/lib/atlas/objects\n          name: objects\n")
		require.Contains(t, string(built), "- name: objects\n        persistentVolumeClaim:\n          claimName: files\n")
	}
}
