// Package replay sets a consumer group back, so that the consumer does the past of the topic again: that is how a lost search index or audit trail is
// rebuilt. It only ever goes back: nothing is skipped.
package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/IBM/sarama"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/internal/kafka"
	"github.com/atlas-platform/atlas/internal/pause"
)

// Config is the command's configuration.
type Config struct {
	config.Kafka
	config.Log
	GroupPrefix string `env:"KAFKA_GROUP_PREFIX" envDefault:"atlas" help:"the consumer groups are <prefix>-indexer and <prefix>-audit"`
}

// From is where in the topic's past to begin: at a time, at an offset, or, when both are missing, at the beginning.
type From struct {
	Time   *time.Time
	Offset *int64
}

// ParseFrom reads an RFC 3339 time, an offset, or "beginning".
func ParseFrom(s string) (From, error) {
	if s == "beginning" {
		return From{}, nil
	}
	if offset, err := strconv.ParseInt(s, 10, 64); err == nil && offset >= 0 {
		return From{Offset: &offset}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return From{Time: &t}, nil
	}
	return From{}, fmt.Errorf("--from=%q is not usable: want a time such as 2026-01-31T08:00:00Z, an offset, or beginning", s)
}

// Options say what to do.
type Options struct {
	Group  string // indexer or audit
	From   From
	DryRun bool
	Wait   bool // until the group has no member, else that is an error
	JSON   bool
}

// Move is what happens to one partition's committed offset.
type Move struct {
	Partition int32 `json:"partition"`
	// Committed is where the group is, -1 for nowhere yet; To is where it goes on. They are the same where there is nothing to go back to.
	Committed int64 `json:"committed"`
	To        int64 `json:"to"`
	// End is where the topic ends: End-To messages will be handled.
	End int64 `json:"end"`
}

// waitInterval is how often a group with members is asked again.
const waitInterval = time.Second

// Run sets the group back and writes what it did to out, and what it waits for to progress.
func Run(ctx context.Context, cfg Config, o Options, out, progress io.Writer) ([]Move, error) {
	group := cfg.GroupPrefix + "-" + o.Group
	settings := kafka.NewConfig("atlas-replay")
	if err := cfg.Secure(settings); err != nil {
		return nil, err
	}
	client, err := sarama.NewClient(cfg.Brokers, settings)
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	defer func() { _ = admin.Close() }() // and the client
	if !o.DryRun {
		if err := empty(ctx, admin, group, o, progress); err != nil {
			return nil, err
		}
	}
	moves, err := plan(client, admin, cfg.Topic, group, o.From)
	if err != nil {
		return nil, err
	}
	if !o.DryRun {
		if err := commit(admin, cfg.Topic, group, moves); err != nil {
			return nil, err
		}
	}
	if o.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return moves, e.Encode(moves)
	}
	return moves, table(out, group, moves, o.DryRun)
}

// empty makes sure that the group has no member. Kafka itself refuses the commit should one join afterwards.
func empty(ctx context.Context, admin sarama.ClusterAdmin, group string, o Options, progress io.Writer) error {
	for told := false; ; told = true {
		groups, err := admin.DescribeConsumerGroups([]string{group})
		if err != nil {
			return fmt.Errorf("look at the group %s: %w", group, err)
		}
		members := 0
		for _, g := range groups {
			if !errors.Is(g.Err, sarama.ErrNoError) && !errors.Is(g.Err, sarama.ErrGroupIDNotFound) {
				return fmt.Errorf("look at the group %s: %w", group, g.Err)
			}
			members += len(g.Members)
		}
		if members == 0 {
			return nil
		}
		if !o.Wait {
			return fmt.Errorf("the group %s has %d active members, which would go on where they are: stop every `atlas %s` first "+
				"(kubectl scale deployment … --replicas=0), or let this command wait for it with --wait", group, members, o.Group)
		}
		if !told {
			fmt.Fprintf(progress, "waiting until the %d members of %s have stopped …\n", members, group)
		}
		if err := pause.For(ctx, waitInterval); err != nil {
			return fmt.Errorf("wait until the group %s is empty: %w", group, err)
		}
	}
}

// plan works out where each partition goes back to. A partition that is before that place already stays, as does one where the group never was: it
// begins at the oldest record.
func plan(client sarama.Client, admin sarama.ClusterAdmin, topic, group string, from From) ([]Move, error) {
	partitions, err := client.Partitions(topic)
	if err != nil {
		return nil, fmt.Errorf("look for the topic %s: %w", topic, err)
	}
	slices.Sort(partitions)
	committed, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	if err == nil && !errors.Is(committed.Err, sarama.ErrNoError) {
		err = committed.Err
	}
	switch {
	case errors.Is(err, sarama.ErrGroupIDNotFound): // it never ran
		committed = &sarama.OffsetFetchResponse{}
	case err != nil:
		return nil, fmt.Errorf("read the offsets of %s: %w", group, err)
	}
	moves := make([]Move, len(partitions))
	for i, p := range partitions {
		m := Move{Partition: p, Committed: -1}
		if block := committed.GetBlock(topic, p); block != nil {
			if !errors.Is(block.Err, sarama.ErrNoError) {
				return nil, fmt.Errorf("read the offset of %s in partition %d: %w", group, p, block.Err)
			}
			m.Committed = block.Offset
		}
		oldest, err := client.GetOffset(topic, p, sarama.OffsetOldest)
		if err != nil {
			return nil, fmt.Errorf("ask for the beginning of %s/%d: %w", topic, p, err)
		}
		if m.End, err = client.GetOffset(topic, p, sarama.OffsetNewest); err != nil {
			return nil, fmt.Errorf("ask for the end of %s/%d: %w", topic, p, err)
		}
		to := oldest
		switch {
		case from.Time != nil:
			if to, err = client.GetOffset(topic, p, from.Time.UnixMilli()); err != nil {
				return nil, fmt.Errorf("look for a time in %s/%d: %w", topic, p, err)
			}
			if to < 0 { // nothing is as young
				to = m.End
			}
		case from.Offset != nil:
			to = max(oldest, *from.Offset)
		}
		m.To = min(to, m.End)
		if m.Committed < 0 {
			m.To = oldest // where it begins anyway
		} else {
			m.To = min(m.To, m.Committed)
		}
		moves[i] = m
	}
	return moves, nil
}

func commit(admin sarama.ClusterAdmin, topic, group string, moves []Move) error {
	offsets := map[int32]sarama.OffsetAndMetadata{}
	for _, m := range moves {
		if m.Committed > m.To {
			offsets[m.Partition] = sarama.OffsetAndMetadata{Offset: m.To, LeaderEpoch: -1}
		}
	}
	if len(offsets) == 0 {
		return nil
	}
	answer, err := admin.AlterConsumerGroupOffsets(group, map[string]map[int32]sarama.OffsetAndMetadata{topic: offsets}, nil)
	if errors.Is(err, sarama.ErrUnknownMemberId) {
		return fmt.Errorf("a member joined the group %s meanwhile: stop it and try again", group)
	}
	if err != nil {
		return fmt.Errorf("set the offsets of %s: %w", group, err)
	}
	for _, partitions := range answer.Errors {
		for p, code := range partitions {
			if errors.Is(code, sarama.ErrUnknownMemberId) {
				return fmt.Errorf("a member joined the group %s meanwhile: stop it and try again", group)
			}
			if !errors.Is(code, sarama.ErrNoError) {
				return fmt.Errorf("set the offset of %s in partition %d: %w; others may be set, try again", group, p, code)
			}
		}
	}
	return nil
}

func table(out io.Writer, group string, moves []Move, dryRun bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tFROM\tTO\tMESSAGES")
	var total int64
	for _, m := range moves {
		committed := "-"
		if m.Committed >= 0 {
			committed = strconv.FormatInt(m.Committed, 10)
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%d\n", m.Partition, committed, m.To, m.End-m.To)
		total += m.End - m.To
	}
	if err := w.Flush(); err != nil {
		return err
	}
	verb := "will handle"
	if dryRun {
		verb = "would handle"
	}
	_, err := fmt.Fprintf(out, "%s %s %d messages once it runs\n", group, verb, total)
	return err
}
