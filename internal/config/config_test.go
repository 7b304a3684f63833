package config_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/config"
)

type roleConfig struct {
	Database      config.Database
	Kafka         config.Kafka
	Elasticsearch config.Elasticsearch
	Ops           config.Ops
	Log           config.Log
	TTL           time.Duration `env:"TTL" envDefault:"15m" help:"a lifetime"`
}

func TestLoadTakesDefaultsAndValues(t *testing.T) {
	t.Parallel()
	cfg, err := config.LoadFrom[roleConfig](map[string]string{
		"DATABASE_URL": "postgres://u:p@h:5432/d", "KAFKA_BROKERS": "a:1, b:2", "ELASTICSEARCH_URL": "http://h:9200, http://i:9200", "TTL": "1m",
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, cfg.Kafka.Brokers)
	require.Equal(t, []string{"http://h:9200", "http://i:9200"}, cfg.Elasticsearch.URLs)
	require.Equal(t, "atlas.domain-events.v1", cfg.Kafka.Topic)
	require.Equal(t, time.Minute, cfg.TTL)
	require.EqualValues(t, 10, cfg.Database.MaxConns)
}

func TestLoadNamesEveryWrongVariable(t *testing.T) {
	t.Parallel()
	_, err := config.LoadFrom[roleConfig](map[string]string{
		"DATABASE_URL": "mysql://u:hunter2@h/d", "DATABASE_MAX_CONNS": "10", "KAFKA_BROKERS": "nohost",
		"KAFKA_TOPIC": "a b", "OPS_ADDR": "9090", "LOG_LEVEL": "loud", "LOG_FORMAT": "xml", "TTL": "soon", "ELASTICSEARCH_USERNAME": "me",
	})
	var configErr *config.Error
	require.ErrorAs(t, err, &configErr)
	require.Len(t, configErr.Problems, 9)
	for _, name := range []string{"DATABASE_URL", "KAFKA_BROKERS", "KAFKA_TOPIC", "ELASTICSEARCH_URL is required", "OPS_ADDR", "LOG_LEVEL", "LOG_FORMAT", "TTL", "ELASTICSEARCH_USERNAME"} {
		require.ErrorContains(t, err, name)
	}
	require.NotContains(t, err.Error(), "hunter2")
}

func TestLoadNamesVariablesOfTheWrongType(t *testing.T) {
	t.Parallel()
	_, err := config.LoadFrom[config.Database](map[string]string{"DATABASE_URL": "postgres://h/d", "DATABASE_MAX_CONNS": "many"})
	require.ErrorContains(t, err, `DATABASE_MAX_CONNS="many" is not a valid whole number`)
}

func TestAVariableThatCanNotBeReadHidesNoOther(t *testing.T) {
	t.Parallel()
	_, err := config.LoadFrom[config.Database](map[string]string{"DATABASE_URL": "mysql://h/d", "DATABASE_MAX_CONNS": "many"})
	var configErr *config.Error
	require.ErrorAs(t, err, &configErr)
	require.Len(t, configErr.Problems, 2)
	require.ErrorContains(t, err, "DATABASE_URL is not a PostgreSQL URI")
	require.ErrorContains(t, err, `DATABASE_MAX_CONNS="many"`)
}

func TestUsageListsEveryVariable(t *testing.T) {
	t.Parallel()
	usage := config.Usage[roleConfig]()
	for _, name := range []string{"DATABASE_URL", "required", "KAFKA_TOPIC", "atlas.domain-events.v1", "TTL", "a lifetime"} {
		require.Contains(t, usage, name)
	}
}
