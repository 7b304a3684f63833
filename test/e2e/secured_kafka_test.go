package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/hack/devenv/servers"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// kafkaSecret is the Secret with all that the stack needs to sign in to Kafka.
const kafkaSecret = "kafka"

// securedKafka is Kafka's listener for pods that takes nobody without TLS, a client certificate and SASL.
type securedKafka struct {
	// brokers is its address as pods reach it, and local the test's.
	brokers, local string
	// dir is where the broker reads certificates.
	dir string
	// now is how the stack signs in.
	now kafka.Security
}

// newSecuredKafka makes a user. It is nil where Kafka was given, which has no listener that tests know of.
func newSecuredKafka(t *testing.T) *securedKafka {
	t.Helper()
	brokers := os.Getenv(testenv.SecuredNodeBrokers)
	if brokers == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(brokers)
	require.NoError(t, err)
	k := &securedKafka{brokers: brokers, local: net.JoinHostPort("127.0.0.1", port), dir: testenv.Require(t, testenv.SecuredCertificates)}
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(k.dir, name))
		require.NoError(t, err)
		return content
	}
	k.now = kafka.Security{
		TLS: true, CA: read(servers.SecuredCA), Certificate: read(servers.SecuredCertificate), Key: read(servers.SecuredKey),
		Mechanism: sarama.SASLTypeSCRAMSHA512, Username: "e2e-" + uuid.NewString()[:8],
	}
	k.present(t, nil) // a test that was killed leaves its own
	t.Cleanup(func() {
		k.present(t, nil)
		admin := kafkaAdmin(t)
		defer func() { require.NoError(t, admin.Close()) }()
		_, err := admin.DeleteUserScramCredentials([]sarama.AlterUserScramCredentialsDelete{{Name: k.now.Username, Mechanism: sarama.SCRAM_MECHANISM_SHA_512}})
		require.NoError(t, err)
	})
	k.changePassword(t)
	return k
}

// kafkaAdmin uses the listener that takes everybody.
func kafkaAdmin(t *testing.T) sarama.ClusterAdmin {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	admin, err := sarama.NewClusterAdmin(splitComma(testenv.Require(t, testenv.KafkaBrokers)), config)
	require.NoError(t, err)
	return admin
}

// changePassword changes the user's and waits until the broker takes it.
func (k *securedKafka) changePassword(t *testing.T) {
	t.Helper()
	k.now.Password = uuid.NewString()
	admin := kafkaAdmin(t)
	defer func() { require.NoError(t, admin.Close()) }()
	results, err := admin.UpsertUserScramCredentials([]sarama.AlterUserScramCredentialsUpsert{{
		Name: k.now.Username, Mechanism: sarama.SCRAM_MECHANISM_SHA_512, Iterations: 4096, Salt: []byte(uuid.NewString()), Password: []byte(k.now.Password),
	}})
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.Equal(t, sarama.ErrNoError, results[0].ErrorCode)
	k.takes(t, k.now)
}

// takes waits until one can sign in so.
func (k *securedKafka) takes(t *testing.T, security kafka.Security) {
	t.Helper()
	eventually(t, time.Minute, "the broker takes what is valid now", func(context.Context) error { return k.connect(security) })
}

// connect signs in once.
func (k *securedKafka) connect(security kafka.Security) error {
	config := kafka.NewConfig("e2e")
	if err := security.Apply(config); err != nil {
		return err
	}
	broker := sarama.NewBroker(k.local)
	if err := broker.Open(config); err != nil {
		return err
	}
	if _, err := broker.Connected(); err != nil {
		return err
	}
	return broker.Close()
}

// refuses waits until the broker refuses who signs in so, or who signs in so refuses the broker.
func (k *securedKafka) refuses(t *testing.T, security kafka.Security) {
	t.Helper()
	eventually(t, time.Minute, "what was valid before is not any more", func(context.Context) error {
		err, slow := k.connect(security), net.Error(nil)
		if err == nil {
			return errors.New("it still is")
		}
		if errors.As(err, &slow) && slow.Timeout() {
			return err
		}
		return nil
	})
}

// present gives the running broker files, a keystore or a truststore by its name; without, those that it began with.
func (k *securedKafka) present(t *testing.T, files map[string][]byte) {
	t.Helper()
	admin := kafkaAdmin(t)
	defer func() { require.NoError(t, admin.Close()) }()
	brokers, _, err := admin.DescribeCluster()
	require.NoError(t, err)
	require.Len(t, brokers, 1)
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for _, store := range []string{"keystore", "truststore"} {
		entry := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationDelete}
		if content, ok := files[store]; ok {
			// Another name each time, or the broker might not look.
			path := filepath.Join(k.dir, fmt.Sprintf("%s-%d.pem", store, time.Now().UnixNano()))
			require.NoError(t, os.WriteFile(path, content, 0o644)) // the broker is another user
			t.Cleanup(func() { require.NoError(t, os.Remove(path)) })
			entry = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &path}
		}
		entries["listener.name."+servers.SecuredNodeListener+".ssl."+store+".location"] = entry
	}
	require.NoError(t, admin.IncrementalAlterConfig(sarama.BrokerResource, strconv.Itoa(int(brokers[0].ID())), entries, false))
}

func (k *securedKafka) data() map[string][]byte {
	return map[string][]byte{
		"ca.crt": k.now.CA, corev1.TLSCertKey: k.now.Certificate, corev1.TLSPrivateKeyKey: k.now.Key, "username": []byte(k.now.Username), "password": []byte(k.now.Password),
	}
}

// signInToKafka has the stack use the listener.
func (l *lifecycle) signInToKafka(t *testing.T) {
	t.Helper()
	if l.kafka = newSecuredKafka(t); l.kafka == nil {
		return
	}
	require.NoError(t, l.cluster.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.key.Namespace, Name: kafkaSecret}, Data: l.kafka.data(),
	}))
	spec, secret := &l.stack.Spec.Kafka, corev1.LocalObjectReference{Name: kafkaSecret}
	spec.Brokers = []string{l.kafka.brokers}
	spec.TLS = &platformv1alpha1.KafkaTLSSpec{
		CAFrom: &platformv1alpha1.CASource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: secret, Key: "ca.crt"}}, ClientCertificateSecretRef: &secret,
	}
	spec.SASL = &platformv1alpha1.KafkaSASLSpec{Mechanism: l.kafka.now.Mechanism, CredentialsSecretRef: secret}
}

func (l *lifecycle) requireSecuredKafka(t *testing.T) {
	t.Helper()
	if l.kafka == nil {
		t.Skip("the Kafka that was given has no listener with TLS and SASL that tests know of")
	}
}

// kafkaRolls waits until the pods that use Kafka have what the test has.
func (l *lifecycle) kafkaRolls(t *testing.T) {
	t.Helper()
	l.rolls(t, kafkaSecret, func(data map[string][]byte) {
		for key, value := range l.kafka.data() {
			data[key] = value
		}
	}, "api", "indexer", "audit")
}

// changeKafkaPassword changes it in Kafka first: connections that are there go on, new ones need the new password. A wrong one in the Secret stops at the operator.
func (l *lifecycle) changeKafkaPassword(t *testing.T) {
	l.requireSecuredKafka(t)
	before := l.pods(t, roles...)
	l.edit(t, kafkaSecret, func(data map[string][]byte) { data["password"] = []byte("a typing error") })
	eventually(t, readyWithin, "a wrong password is told", func(context.Context) error {
		c := condition(l.stackNow(t).Status.Conditions, platformv1alpha1.ConditionTopicReady)
		if c.Reason != platformv1alpha1.ReasonRefused {
			return fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
		return nil
	})
	require.Equal(t, before, l.pods(t, roles...), "no pod gets it")

	former := l.kafka.now
	l.kafka.changePassword(t)
	l.kafka.refuses(t, former)
	l.kafkaRolls(t)
	l.flows(t)
	l.keepsTopic(t)
}

// rotateKafkaCA replaces the CA of the broker's and the client's certificates: both sides trust both, then each gets its new certificate, then the old CA goes.
func (l *lifecycle) rotateKafkaCA(t *testing.T) {
	l.requireSecuredKafka(t)
	former := l.kafka.now
	next, err := servers.NewAuthority("Atlas test CA 2")
	require.NoError(t, err)
	server, serverKey, err := next.Issue(servers.SecuredBrokerName)
	require.NoError(t, err)
	keystore := append(serverKey, server...)
	both := append(append([]byte{}, former.CA...), next.PEM...)

	l.kafka.now.CA = both
	l.kafkaRolls(t)
	l.kafka.present(t, map[string][]byte{"keystore": keystore, "truststore": both})
	l.kafka.refuses(t, former) // who trusts the old CA alone does not trust the broker any more
	l.kafka.takes(t, l.kafka.now)

	l.kafka.now.CA = next.PEM
	l.kafka.now.Certificate, l.kafka.now.Key, err = next.Issue("Atlas test client")
	require.NoError(t, err)
	l.kafkaRolls(t)
	l.kafka.present(t, map[string][]byte{"keystore": keystore, "truststore": next.PEM})
	former.CA = next.PEM
	l.kafka.refuses(t, former) // the broker does not take the old client certificate any more
	l.kafka.takes(t, l.kafka.now)
	l.flows(t)
	l.keepsTopic(t)
}

// flows writes an item, which goes by Kafka to the index and to the audit trail.
func (l *lifecycle) flows(t *testing.T) {
	t.Helper()
	api, title, db := l.caller(t), "turn"+uuid.NewString()[:8], l.logins.connect(t)
	id := l.add(t, api, title, "written after a rotation")
	eventually(t, time.Minute, "search finds an item that was just written", func(ctx context.Context) error { return finds(ctx, api, title, id) })
	eventually(t, time.Minute, "the audit trail has it", func(ctx context.Context) error {
		var rows int
		if err := db.QueryRow(ctx, "SELECT count(*) FROM audit_events WHERE entity_id = $1", id).Scan(&rows); err != nil || rows == 0 {
			return fmt.Errorf("%d rows: %w", rows, err)
		}
		return nil
	})
}

// keepsTopic edits the topic, which the operator puts right.
func (l *lifecycle) keepsTopic(t *testing.T) {
	t.Helper()
	const retention = "retention.ms"
	spec := l.stackNow(t).Spec.Kafka.Topic
	want, other := strconv.FormatInt(spec.Retention.Milliseconds(), 10), strconv.FormatInt((spec.Retention.Duration-time.Hour).Milliseconds(), 10)
	admin := kafkaAdmin(t)
	defer func() { require.NoError(t, admin.Close()) }()
	require.NoError(t, admin.IncrementalAlterConfig(sarama.TopicResource, spec.Name, map[string]sarama.IncrementalAlterConfigsEntry{
		retention: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &other},
	}, false))
	shows := func(want string) func(context.Context) error {
		return func(context.Context) error {
			results, err := admin.DescribeConfigs([]*sarama.ConfigResource{
				{Type: sarama.TopicResource, Name: spec.Name, ConfigNames: []string{retention}},
			}, sarama.DescribeConfigsOptions{})
			if err != nil {
				return err
			}
			if len(results) != 1 || len(results[0].Configs) != 1 || results[0].Configs[0].Value != want {
				return fmt.Errorf("%+v, not %s", results, want)
			}
			return nil
		}
	}
	l.reconcile(t)
	eventually(t, readyWithin, "the operator puts the topic right", shows(want))
	require.Equal(t, metav1.ConditionTrue, condition(l.stackNow(t).Status.Conditions, platformv1alpha1.ConditionTopicReady).Status)
}
