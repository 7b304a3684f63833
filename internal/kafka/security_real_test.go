package kafka_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// scramUser makes a user.
func scramUser(t *testing.T, mechanism sarama.ScramMechanismType) string {
	t.Helper()
	admin, err := sarama.NewClusterAdmin(kafkatest.Real(t), kafka.NewConfig("test"))
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close()) }()
	name := "user-" + uuid.NewString()
	results, err := admin.UpsertUserScramCredentials([]sarama.AlterUserScramCredentialsUpsert{
		{Name: name, Mechanism: mechanism, Iterations: 4096, Salt: []byte("salt"), Password: []byte(password)},
	})
	require.NoError(t, err)
	require.Len(t, results, 1)
	require.Equal(t, sarama.ErrNoError, results[0].ErrorCode)
	return name
}

// tokenServer gives out tokens without a signature.
func tokenServer(t *testing.T) string {
	t.Helper()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now().Unix()
		token := part(map[string]string{"alg": "none"}) + "." + part(map[string]any{"sub": "atlas", "iat": now, "exp": now + 3600}) + "."
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"token_type":"bearer","expires_in":3600}`, token)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestARealBrokerIsReachedByEachMechanism(t *testing.T) {
	t.Parallel()
	brokers, base := kafkatest.Secured(t)
	topic := kafkatest.NewTopic(t, kafkatest.Real(t), 1)
	for mechanism, sign := range map[string]func(*kafka.Security){
		"PLAIN": func(s *kafka.Security) { s.Username, s.Password = "atlas", "only-for-tests" },
		"SCRAM-SHA-256": func(s *kafka.Security) {
			s.Username, s.Password = scramUser(t, sarama.SCRAM_MECHANISM_SHA_256), password
		},
		"SCRAM-SHA-512": func(s *kafka.Security) {
			s.Username, s.Password = scramUser(t, sarama.SCRAM_MECHANISM_SHA_512), password
		},
		"OAUTHBEARER": func(s *kafka.Security) {
			s.OAuth = kafka.OAuth{TokenURL: tokenServer(t), ClientID: "id", ClientSecret: "secret"}
		},
	} {
		security := base
		security.Mechanism = mechanism
		sign(&security)
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			opts := options(t, brokers, topic)
			opts.Secure = security.Apply
			r := newRecorder(nil)
			consumer := kafka.NewConsumer(opts, r)
			kafkatest.Start(t, consumer.Run)

			settings := kafka.NewProducerConfig("test")
			require.NoError(t, security.Apply(settings))
			producer, err := sarama.NewSyncProducer(brokers, settings)
			require.NoError(t, err)
			defer func() { require.NoError(t, producer.Close()) }()
			_, _, err = producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(mechanism)})
			require.NoError(t, err)
			for !slices.Contains(r.wait(t, 1), mechanism) { // the topic is everybody's
			}
		})
	}
}

func TestARealBrokerRefusesOthers(t *testing.T) {
	t.Parallel()
	brokers, good := kafkatest.Secured(t)
	good.Mechanism, good.Username, good.Password = "PLAIN", "atlas", "only-for-tests"
	require.NoError(t, connect(t, brokers, good))
	for name, change := range map[string]func(*kafka.Security){
		"a wrong password":      func(s *kafka.Security) { s.Password = "wrong" },
		"no SASL":               func(s *kafka.Security) { s.Mechanism = "" },
		"no client certificate": func(s *kafka.Security) { s.Certificate, s.Key = nil, nil },
		"the system's CAs":      func(s *kafka.Security) { s.CA = nil },
	} {
		bad := good
		change(&bad)
		require.Error(t, connect(t, brokers, bad), name)
	}
}
