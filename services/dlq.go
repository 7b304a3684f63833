package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/atlas-platform/atlas/internal/config"
	"github.com/atlas-platform/atlas/services/dlq"
)

func dlqCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "Show dead letters, and send them back",
		Long: `Events that a consumer can never handle lie in the topic <KAFKA_TOPIC>.dlq, each with the reason. See them, mend what is wrong, and send them back.

Events that Kafka itself refused never came that far: they lie in the table outbox_dead_letters of the database, for --source outbox.

Environment variables, their defaults and meanings:
` + config.Usage[dlq.Config]() + "\nFor --source outbox:\n" + config.Usage[dlq.OutboxConfig](),
		GroupID: "operations",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(dlqListCommand(), dlqShowCommand(), dlqReplayCommand(), dlqDiscardCommand())
	return cmd
}

func dlqListCommand() *cobra.Command {
	o := dlq.ListOptions{Now: time.Now}
	output, source := "text", ""
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters that were not sent back or discarded yet, the newest first",
		Example: `  atlas dlq list
  atlas dlq list --group audit --reason "not supported"
  atlas dlq list --replayed -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Limit < 1 {
				return errors.New("--limit must be at least 1")
			}
			var err error
			if o.JSON, err = isJSON(output); err != nil {
				return err
			}
			if outbox, err := isOutbox(source); outbox || err != nil {
				return onOutbox(err, &o.Filter, nil, func(cfg dlq.OutboxConfig, f dlq.OutboxFilter) error {
					return dlq.ListOutbox(cmd.Context(), cfg, f, o, cmd.OutOrStdout())
				})
			}
			return onTopic(nil, &o.Filter, func(cfg dlq.Config) error { return dlq.List(cmd.Context(), cfg, o, cmd.OutOrStdout()) })
		},
	}
	filterFlags(cmd, &o.Filter)
	cmd.Flags().BoolVar(&o.Replayed, "replayed", false, "also those that were sent back or discarded")
	cmd.Flags().IntVar(&o.Limit, "limit", 50, "how many at most")
	sourceFlag(cmd, &source)
	outputFlag(cmd, &output)
	return cmd
}

func dlqShowCommand() *cobra.Command {
	output, source := "text", ""
	cmd := &cobra.Command{
		Use:   "show PARTITION/OFFSET",
		Short: "Show a dead letter's headers and value",
		Example: `  atlas dlq show 0/17
  atlas dlq show --source outbox 0198c9a0-5b1e-7c3a-9f00-000000000001`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if outbox, err := isOutbox(source); outbox || err != nil {
				return onOutbox(err, &dlq.Filter{}, args, func(cfg dlq.OutboxConfig, f dlq.OutboxFilter) error {
					return dlq.ShowOutbox(cmd.Context(), cfg, f.IDs[0], cmd.OutOrStdout())
				})
			}
			asJSON, err := isJSON(output)
			if err != nil {
				return err
			}
			var f dlq.Filter
			return onTopic(args, &f, func(cfg dlq.Config) error { return dlq.Show(cmd.Context(), cfg, f.IDs[0], asJSON, cmd.OutOrStdout()) })
		},
	}
	sourceFlag(cmd, &source)
	outputFlag(cmd, &output)
	return cmd
}

func dlqReplayCommand() *cobra.Command {
	var o dlq.ReplayOptions
	var all, again bool
	output, source := "text", ""
	cmd := &cobra.Command{
		Use:   "replay [PARTITION/OFFSET ...]",
		Short: "Send dead letters back to their topic, each once",
		Long: `Send dead letters back to the topic that they came from, with their key, value and headers, and dlq_replays, which counts how often that was done.
Name letters, or choose them by --group, --reason, --type or --all. A letter that was sent back is marked and left alone from then on.

Both consumers get what is sent back. That is harmless: the indexer reads the item as it is now, the audit trail knows each event by its id.`,
		Example: `  atlas dlq replay 0/17 0/19
  atlas dlq replay --group indexer --reason "mapper_parsing" --dry-run
  atlas dlq replay --all
  atlas dlq replay --source outbox --reason "too large"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if filtered := o.Group != "" || o.Reason != "" || o.Type != ""; len(args) == 0 && !filtered && !all {
				return errors.New("say which letters: by id, by --group, --reason or --type, or --all")
			}
			o.Replayed = again
			var err error
			if o.JSON, err = isJSON(output); err != nil {
				return err
			}
			if outbox, err := isOutbox(source); outbox || err != nil {
				return onOutbox(err, &o.Filter, args, func(cfg dlq.OutboxConfig, f dlq.OutboxFilter) error {
					_, err := dlq.ReplayOutbox(cmd.Context(), cfg, f, o, cmd.OutOrStdout())
					return err
				})
			}
			return onTopic(args, &o.Filter, func(cfg dlq.Config) error {
				_, err := dlq.Replay(cmd.Context(), cfg, o, cmd.OutOrStdout())
				return err
			})
		},
	}
	filterFlags(cmd, &o.Filter)
	cmd.Flags().BoolVar(&all, "all", false, "every letter that was not sent back yet")
	cmd.Flags().BoolVar(&again, "again", false, "also letters that were sent back before")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say which letters would be sent back")
	sourceFlag(cmd, &source)
	outputFlag(cmd, &output)
	return cmd
}

func dlqDiscardCommand() *cobra.Command {
	var o dlq.ReplayOptions
	output := "text"
	cmd := &cobra.Command{
		Use:   "discard [PARTITION/OFFSET ...]",
		Short: "Mark dead letters as done with, without sending them back",
		Long: `Mark dead letters of consumers as done with: what can't be mended, or was seen to otherwise. They are not listed or sent back from then on, and stay in the
dead-letter topic for as long as it keeps its records. Name letters, or choose them by --group, --reason or --type.`,
		Example: `  atlas dlq discard 0/17 0/19
  atlas dlq discard --reason "not a domain event" --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && o.Group == "" && o.Reason == "" && o.Type == "" {
				return errors.New("say which letters: by id, or by --group, --reason or --type")
			}
			var err error
			if o.JSON, err = isJSON(output); err != nil {
				return err
			}
			return onTopic(args, &o.Filter, func(cfg dlq.Config) error {
				_, err := dlq.Discard(cmd.Context(), cfg, o, cmd.OutOrStdout())
				return err
			})
		},
	}
	filterFlags(cmd, &o.Filter)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say which letters would be discarded")
	outputFlag(cmd, &output)
	return cmd
}

// onTopic adds the letters that are named to the filter and does it with the dead-letter topic.
func onTopic(ids []string, f *dlq.Filter, do func(dlq.Config) error) error {
	for _, arg := range ids {
		id, err := dlq.ParseID(arg)
		if err != nil {
			return err
		}
		f.IDs = append(f.IDs, id)
	}
	cfg, err := config.Load[dlq.Config]()
	if err != nil {
		return err
	}
	return do(cfg)
}

func filterFlags(cmd *cobra.Command, f *dlq.Filter) {
	cmd.Flags().StringVar(&f.Group, "group", "", "consumer group that gave the event up: its name, or indexer or audit")
	cmd.Flags().StringVar(&f.Reason, "reason", "", "a part of the reason")
	cmd.Flags().StringVar(&f.Type, "type", "", "the event type")
}

func sourceFlag(cmd *cobra.Command, source *string) {
	cmd.Flags().StringVar(source, "source", "topic", "topic: what a consumer gave up; outbox: what Kafka refused, by event id")
}

func isOutbox(source string) (bool, error) {
	switch source {
	case "topic":
		return false, nil
	case "outbox":
		return true, nil
	}
	return false, fmt.Errorf("--source=%q is unknown: want topic or outbox", source)
}

// onOutbox runs a command for the letters of the outbox, which have no group.
func onOutbox(err error, f *dlq.Filter, ids []string, run func(dlq.OutboxConfig, dlq.OutboxFilter) error) error {
	if err != nil {
		return err
	}
	if f.Group != "" {
		return errors.New("--group is of consumers: events of the outbox reached none")
	}
	filter := dlq.OutboxFilter{Reason: f.Reason, Type: f.Type}
	for _, s := range ids {
		id, err := uuid.Parse(s)
		if err != nil {
			return fmt.Errorf("%q is no event's id, as `atlas dlq list --source outbox` shows it", s)
		}
		filter.IDs = append(filter.IDs, id)
	}
	cfg, err := config.Load[dlq.OutboxConfig]()
	if err != nil {
		return err
	}
	return run(cfg, filter)
}
