package kafka_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/kafka/kafkatest"
)

// memberVariable, when it is set, makes the test's program a member of a consumer group instead: "brokers topic group".
const memberVariable = "ATLAS_TEST_GROUP_MEMBER"

func TestMain(m *testing.M) {
	if member := os.Getenv(memberVariable); member != "" {
		beMember(strings.Fields(member))
		return
	}
	if drainer := os.Getenv(drainVariable); drainer != "" {
		drain(strings.Fields(drainer))
		return
	}
	os.Exit(m.Run())
}

// beMember says "begin <partition> <offset>" for each message of a batch, waits for a line on its standard input, and says "done …": a member whose
// work can be stopped in its middle.
func beMember(args []string) {
	gate := bufio.NewScanner(os.Stdin)
	consumer := kafka.NewConsumer(kafka.Options{Brokers: strings.Split(args[0], ","), Topic: args[1], Group: args[2], MaxMessages: 10},
		kafka.HandlerFunc(func(_ context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			say := func(what string) {
				for _, msg := range batch {
					fmt.Println(what, msg.Partition, msg.Offset)
				}
			}
			say("begin")
			if !gate.Scan() {
				return nil, errors.New("the gate is closed")
			}
			say("done")
			return nil, nil
		}))
	_ = consumer.Run(context.Background())
}

// process is a member in a process of its own.
type process struct {
	cmd  *exec.Cmd
	gate io.Writer
	said chan string
}

func startMember(t *testing.T, opts kafka.Options) *process {
	t.Helper()
	p := &process{said: make(chan string, 10_000)}
	p.cmd = exec.CommandContext(context.Background(), os.Args[0])
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", memberVariable, strings.Join(opts.Brokers, ","), opts.Topic, opts.Group))
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.gate, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	go func() {
		defer close(p.said)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.said <- lines.Text()
		}
	}()
	return p
}

// says waits until the member says something that begins so, and returns it.
func (p *process) says(t *testing.T, beginning string) string {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, open := <-p.said:
			require.True(t, open, "the member ended")
			if strings.HasPrefix(line, beginning) {
				return line
			}
		case <-limit:
			require.Failf(t, "the member is silent", "it does not say %q", beginning)
		}
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

func (p *process) open(t *testing.T) {
	t.Helper()
	_, err := io.WriteString(p.gate, "\n")
	require.NoError(t, err)
}

// load sends n messages to each of the keys of a topic with several partitions.
func load(t *testing.T, brokers []string, topic string, n int) (sent int) {
	t.Helper()
	producer := kafkatest.Producer(t, brokers)
	var messages []*sarama.ProducerMessage
	for i := range n {
		for key := range 16 {
			messages = append(messages, &sarama.ProducerMessage{
				Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("key-", key)), Value: sarama.StringEncoder(fmt.Sprintf("%d/%d", key, i)),
			})
		}
	}
	require.NoError(t, producer.SendMessages(messages))
	return len(messages)
}

// tally counts how often each message was handled.
type tally struct {
	mu    sync.Mutex
	times map[string]int
}

func (c *tally) add(batch []*sarama.ConsumerMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, msg := range batch {
		c.times[string(msg.Value)]++
	}
}

func (c *tally) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

func (c *tally) again() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.times {
		n += times - 1
	}
	return n
}

// committedOfAll is the sum of a group's committed offsets.
func committedOfAll(t *testing.T, opts kafka.Options, partitions int32) (sum int64) {
	t.Helper()
	for p := range partitions {
		sum += max(kafkatest.Committed(t, opts.Brokers, opts.Group, opts.Topic, p), 0)
	}
	return sum
}

// TestMembersThatComeAndGoDoNothingTwice is a rolling update under load: three members join, then the first two leave. What they were working on is
// finished and committed before the partitions change hands.
func TestMembersThatComeAndGoDoNothingTwice(t *testing.T) {
	t.Parallel()
	const partitions = 6
	brokers := kafkatest.Real(t)
	topic := kafkatest.NewTopic(t, brokers, partitions)
	opts := options(t, brokers, topic)
	opts.MaxMessages, opts.Registerer, opts.HandOver = 20, nil, time.Minute
	counts := &tally{times: map[string]int{}}
	member := func() (func(), *kafka.Consumer) {
		c := kafka.NewConsumer(opts, kafka.HandlerFunc(func(ctx context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			counts.add(batch)
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(30 * time.Millisecond): // the work
				return nil, nil
			}
		}))
		return kafkatest.Start(t, c.Run), c
	}
	joined := func(c *kafka.Consumer) {
		require.Eventually(t, func() bool { return c.Ready(context.Background()) == nil }, patience, time.Millisecond)
	}
	changed := make(chan struct{})
	sent := make(chan int, 1)
	go func() { // the load
		producer, n := kafkatest.Producer(t, brokers), 0
		for {
			select {
			case <-changed:
				sent <- n
				return
			default:
			}
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{
				Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("key-", n%16)), Value: sarama.StringEncoder(fmt.Sprint(n)),
			})
			if err != nil {
				t.Errorf("send: %v", err)
				sent <- n
				return
			}
			n++
		}
	}()
	first, c := member()
	joined(c)
	require.Eventually(t, func() bool { return counts.distinct() > 0 }, patience, time.Millisecond)
	second, c := member()
	joined(c)
	_, c = member()
	joined(c)
	first()
	second()
	joined(c)
	close(changed)
	total := <-sent
	require.Eventually(t, func() bool { return counts.distinct() == total }, 2*patience, 10*time.Millisecond)
	require.Zero(t, counts.again())
	require.Eventually(t, func() bool { return committedOfAll(t, opts, partitions) == int64(total) }, patience, 20*time.Millisecond)
}

// TestKilledMemberLosesNothing kills a member in the middle of its work.
func TestKilledMemberLosesNothing(t *testing.T) {
	t.Parallel()
	const partitions = 4
	brokers := kafkatest.Real(t)
	topic := kafkatest.NewTopic(t, brokers, partitions)
	opts := options(t, brokers, topic)
	sent := load(t, brokers, topic, 20)
	victim := startMember(t, opts)
	victim.says(t, "begin")
	victim.open(t)
	victim.says(t, "done")
	victim.says(t, "begin") // it has committed the first batch, or is about to
	victim.signal(t, syscall.SIGKILL)
	counts := &tally{times: map[string]int{}}
	kafkatest.Start(t, kafka.NewConsumer(opts, kafka.HandlerFunc(func(_ context.Context, batch []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
		counts.add(batch)
		return nil, nil
	})).Run)
	require.Eventually(t, func() bool { return committedOfAll(t, opts, partitions) == int64(sent) }, 2*patience, 50*time.Millisecond)
	require.GreaterOrEqual(t, counts.distinct(), sent-10, "all but the batch that the victim finished")
	require.Zero(t, counts.again())
}

// TestZombieWritesLateAndCommitsNothing stops a member for longer than its session, until another one has done its work and more. When it goes on, it
// finishes its batch, because nothing can stop it; its commit is refused, and it joins again.
func TestZombieWritesLateAndCommitsNothing(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Real(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	opts := options(t, brokers, topic)
	kafkatest.Send(t, brokers, topic, "k", values(5)...)
	zombie := startMember(t, opts)
	late := strings.Replace(zombie.says(t, "begin"), "begin", "done", 1)
	zombie.signal(t, syscall.SIGSTOP)
	kafkatest.Send(t, brokers, topic, "k", values(40)...)
	heir := newRecorder(nil)
	stop := kafkatest.Start(t, kafka.NewConsumer(opts, heir).Run)
	heir.wait(t, 45) // once the zombie's session has ended
	committed(t, opts, 45)

	zombie.signal(t, syscall.SIGCONT)
	zombie.open(t)
	require.Equal(t, late, zombie.says(t, "done")) // the same work a second time: handlers bear it
	stop()
	kafkatest.Send(t, brokers, topic, "k", values(1)...)
	require.Equal(t, "begin 0 45", zombie.says(t, "begin 0 45")) // it is a member again, and goes on where the heir ended
	committed(t, opts, 45)
}

// TestBatchThatWaitsIsGivenBackAtOnce lets a member's dependency be away while another one joins: the partitions that the new one gets don't wait for
// the first one's next try, nor for the end of HandOver.
func TestBatchThatWaitsIsGivenBackAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, brokers []string) {
		topic := kafkatest.NewTopic(t, brokers, 2)
		opts := options(t, brokers, topic)
		opts.Registerer, opts.HandOver, opts.RetryInitial, opts.RetryMax = nil, time.Hour, time.Hour, time.Hour
		load(t, brokers, topic, 1)
		failed := make(chan struct{}, 100)
		kafkatest.Start(t, kafka.NewConsumer(opts, kafka.HandlerFunc(func(context.Context, []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
			failed <- struct{}{}
			return nil, errors.New("the dependency is away")
		})).Run)
		<-failed
		<-failed // both partitions wait for an hour
		healthy := newRecorder(nil)
		kafkatest.Start(t, kafka.NewConsumer(opts, healthy).Run)
		healthy.wait(t, 1)
	})
}

// TestWorkIsCutShortAfterHandOver stops a consumer whose work does not end by itself.
func TestWorkIsCutShortAfterHandOver(t *testing.T) {
	t.Parallel()
	brokers := kafkatest.Fake(t)
	topic := kafkatest.NewTopic(t, brokers, 1)
	opts := options(t, brokers, topic)
	opts.HandOver = time.Millisecond
	kafkatest.Send(t, brokers, topic, "k", values(1)...)
	began, cut := make(chan struct{}), make(chan struct{})
	stop := kafkatest.Start(t, kafka.NewConsumer(opts, kafka.HandlerFunc(func(ctx context.Context, _ []*sarama.ConsumerMessage) ([]kafka.Poison, error) {
		close(began)
		<-ctx.Done()
		close(cut)
		return nil, ctx.Err()
	})).Run)
	<-began
	stop()
	<-cut
	require.EqualValues(t, -1, kafkatest.Committed(t, brokers, opts.Group, topic, 0))
}
