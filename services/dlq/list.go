package dlq

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// ListOptions say what List shows and how.
type ListOptions struct {
	Filter
	Limit int  // the newest so many
	JSON  bool // else a table
	Now   func() time.Time
}

// List writes the newest letters, the newest first.
func List(ctx context.Context, cfg Config, o ListOptions, out io.Writer) error {
	b, err := open(ctx, cfg.Kafka)
	if err != nil {
		return err
	}
	defer b.close()
	var newest []*Letter // of each partition in order, cut now and then
	total := 0
	cut := func() {
		slices.SortStableFunc(newest, func(a, b *Letter) int {
			if c := b.Time.Compare(a.Time); c != 0 {
				return c
			}
			return cmp.Or(cmp.Compare(b.id.Partition, a.id.Partition), cmp.Compare(b.id.Offset, a.id.Offset))
		})
		newest = newest[:min(len(newest), o.Limit)]
	}
	err = b.letters(ctx, o.Filter, func(l *Letter) error {
		total++
		l.message = nil // its value may be large
		if newest = append(newest, l); len(newest) >= 2*o.Limit {
			cut()
		}
		return nil
	})
	if err != nil {
		return err
	}
	cut()
	if o.JSON {
		if newest == nil {
			newest = []*Letter{}
		}
		return encode(out, newest)
	}
	return table(out, newest, total, o.Now())
}

func encode(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func table(out io.Writer, letters []*Letter, total int, now time.Time) error {
	if total == 0 {
		_, err := fmt.Fprintln(out, "no dead letters")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tAGE\tGROUP\tTYPE\tREPLAYS\tREASON")
	for _, l := range letters {
		replays := fmt.Sprint(l.Replays)
		if l.Replayed {
			replays += " (done with)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, age(now.Sub(l.Time)), l.Group, cmp.Or(l.EventType, "-"), replays, line(l.Reason))
	}
	if total > len(letters) {
		fmt.Fprintf(w, "… and %d older ones: see --limit\n", total-len(letters))
	}
	return w.Flush()
}

// age is a duration as one reads it: 40s, 12m, 5h, 3d.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(int(d.Seconds()), 0))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// line makes any text one line of a table.
func line(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if r := []rune(s); len(r) > 120 {
		s = string(r[:119]) + "…"
	}
	return s
}

// shown is a letter with all that it holds.
type shown struct {
	Letter
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers"`
	// Value is the record's value where it is JSON, Text where it is other text, Bytes (base64) else.
	Value json.RawMessage `json:"value,omitempty"`
	Text  string          `json:"text,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
}

// Show writes one letter with its headers and its value.
func Show(ctx context.Context, cfg Config, id ID, asJSON bool, out io.Writer) error {
	b, err := open(ctx, cfg.Kafka)
	if err != nil {
		return err
	}
	defer b.close()
	var found *Letter
	if err := b.letters(ctx, Filter{IDs: []ID{id}, Replayed: true}, func(l *Letter) error {
		found = l
		return nil
	}); err != nil {
		return err
	}
	if found == nil {
		return fmt.Errorf("there is no dead letter %s in %s", id, b.topic)
	}
	s := shown{Letter: *found, Key: strings.ToValidUTF8(string(found.message.Key), "�"), Headers: map[string]string{}}
	for _, h := range found.message.Headers {
		s.Headers[string(h.Key)] = strings.ToValidUTF8(string(h.Value), "�")
	}
	switch value := found.message.Value; {
	case json.Valid(value):
		s.Value = value
	case utf8.Valid(value):
		s.Text = string(value)
	default:
		s.Bytes = value
	}
	if asJSON {
		return encode(out, s)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		fmt.Fprintf(out, "%s: %s\n", name, s.Headers[name])
	}
	fmt.Fprintf(out, "key: %s\ntime: %s\n", s.Key, s.Time.Format(time.RFC3339))
	if s.Replayed {
		fmt.Fprintln(out, "it was sent back or discarded")
	}
	fmt.Fprintln(out)
	if s.Value != nil {
		return encode(out, s.Value)
	}
	_, err = fmt.Fprintf(out, "%q\n", found.message.Value)
	return err
}
