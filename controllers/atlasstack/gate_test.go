package atlasstack

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/topic"
)

var errLost = &apply.Waiting{Reason: "Unreachable", Message: "gone", Lost: true}

// TestOneAsksAServerThatDoesNotAnswer: the others take its word, until it is worth while to ask again.
func TestOneAsksAServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gates
		asked := 0
		lost := func() error { asked++; time.Sleep(8 * time.Second); return errLost }
		go func() { _ = g.ask("kafka", "me", lost) }()
		synctest.Wait()
		require.ErrorAs(t, g.ask("kafka", "me", lost), &busy{}, "nothing is known yet")
		require.NoError(t, g.ask("other", "me", func() error { return nil }))
		time.Sleep(9 * time.Second)
		require.Equal(t, errLost, g.ask("kafka", "me", lost))
		require.Equal(t, 1, asked)
		time.Sleep(lostRetry)
		require.NoError(t, g.ask("kafka", "me", func() error { return nil }))
		require.NoError(t, g.ask("kafka", "me", func() error { return nil }))
	})
}

// TestAServerThatHangsLeavesWorkers: however many stacks with however many credentials ask it.
func TestAServerThatHangsLeavesWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gates
		hang := func() error { time.Sleep(time.Hour); return errLost }
		held := 0
		for i := range 100 {
			for range 3 {
				done := make(chan error, 1)
				go func() { done <- g.ask("dead", fmt.Sprint(i), hang) }()
				synctest.Wait()
				select {
				case err := <-done:
					require.ErrorAs(t, err, &busy{})
				default:
					held++
				}
			}
		}
		require.Equal(t, mostAsking, held)
		for i := range 100 {
			go func() { _ = g.ask(fmt.Sprint("dead", i), "me", hang) }()
		}
		synctest.Wait()
		require.Equal(t, mostDoubted, g.doubted)
		require.Less(t, g.doubted+mostAsking, workers)
		time.Sleep(2 * time.Hour)
		require.Zero(t, g.doubted)
		require.Empty(t, g.asking)
	})
}

// TestWrongCredentialsAreOnesOwn: somebody whom a server does not answer keeps nobody else from it.
func TestWrongCredentialsAreOnesOwn(t *testing.T) {
	t.Parallel()
	var g gates
	require.Equal(t, errLost, g.ask("kafka", "mallory", func() error { return errLost }))
	require.NoError(t, g.ask("kafka", "ada", func() error { return nil }))
	require.Equal(t, errLost, g.ask("kafka", "mallory", func() error { return errors.New("not asked") }))
	refused := errors.New("refused")
	require.Equal(t, refused, g.ask("kafka", "ada", func() error { return refused }))
	require.NoError(t, g.ask("kafka", "ada", func() error { return nil }), "a refusal is an answer")
	g.forget()
	require.Empty(t, g.callers)
}

// TestALossCountsForWhoeverHadIt: somebody else was let in while the server was known to answer.
func TestALossCountsForWhoeverHadIt(t *testing.T) {
	t.Parallel()
	var g gates
	require.NoError(t, g.ask("kafka", "me", func() error { return nil }))
	here, doubted, err := g.enter("kafka", "me")
	require.NoError(t, err)
	require.Equal(t, errLost, g.ask("kafka", "me", func() error { return errLost }))
	g.leave("kafka", here, doubted, true, nil)
	require.Zero(t, g.doubted)
	require.Empty(t, g.asking)
}

// TestALossNamesNobodysTopic: other stacks that ask the same brokers in the same name are told it too.
func TestALossNamesNobodysTopic(t *testing.T) {
	t.Parallel()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	kafka.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		kafka.KeepControl()
		asked, ok := request.(*kmsg.MetadataRequest)
		if ok && len(asked.Topics) == 1 && *asked.Topics[0].Topic == "theirs.events" {
			return nil, errors.New("closes the connection"), true
		}
		return nil, nil, false
	})
	var g gates
	told := func(name string) string {
		err := g.ask("kafka", "both", func() error {
			admin, err := topic.ConnectSarama(t.Context(), topic.Target{Brokers: kafka.ListenAddrs()})
			if err != nil {
				return err
			}
			defer func() { _ = admin.Close() }()
			return topic.Ensure(t.Context(), admin, topic.Spec{Name: name, Partitions: 1, ReplicationFactor: 1})
		})
		waiting, ok := apply.AsWaiting(err)
		require.True(t, ok, "%v", err)
		require.True(t, waiting.Lost)
		return waiting.Message
	}
	require.Contains(t, told("theirs.events"), "could not reach Kafka at "+kafka.ListenAddrs()[0])
	g.callers["kafkaboth"].until = time.Now().Add(time.Hour)
	require.NotContains(t, told("ours.events"), "theirs")
}
