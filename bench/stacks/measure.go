package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/internal/pause"
)

const (
	patience = 30 * time.Minute
	settling = 90 * time.Second
	probes   = 60
)

// converge creates all stacks and waits until every one is Ready.
func (w *world) converge(ctx context.Context, o options) error {
	for i := range o.namespaces {
		if err := w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace(i)}}); err != nil {
			return fmt.Errorf("create a namespace: %w", err)
		}
	}
	if err := w.run(ctx); err != nil {
		return err
	}
	begin := time.Now()
	var group errgroup.Group
	group.SetLimit(players)
	for i := range o.stacks {
		group.Go(func() error {
			return w.create(ctx, w.stack(namespace(i%o.namespaces), name(i), i, w.kafka.ListenAddrs()[0]))
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	created := time.Since(begin)
	if err := w.allReady(ctx, o.stacks); err != nil {
		return err
	}
	took := time.Since(begin)
	w.tell(fmt.Sprintf("%d stacks created (%s) and Ready", o.stacks, created.Round(100*time.Millisecond)), took.Round(100*time.Millisecond).String(),
		"< "+fluxTime.String()+", Flux's for 1,000 Kustomizations", took < fluxTime)
	peak, err := w.memory("VmHWM")
	if err != nil {
		return err
	}
	w.tell("the operator's memory at most (RSS)", fmt.Sprintf("%d MiB", peak>>20), "≤ 256 MiB", peak <= mostMemory)
	return nil
}

func namespace(i int) string { return fmt.Sprintf("bench-%d", i) }

func name(i int) string { return fmt.Sprintf("stack-%d", i) }

// allReady waits until so many stacks are Ready, and says which one is not when that takes too long.
func (w *world) allReady(ctx context.Context, n int) error {
	last := ""
	err := wait.PollUntilContextTimeout(ctx, time.Second, patience, true, func(ctx context.Context) (bool, error) {
		list := &v1alpha1.AtlasStackList{}
		if err := w.client.List(ctx, list); err != nil {
			return false, err
		}
		ready := 0
		for i := range list.Items {
			c := meta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.ConditionReady)
			if c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == list.Items[i].Generation {
				ready++
			} else if c != nil {
				last = list.Items[i].Name + ": " + c.Message
			}
		}
		return ready >= n, nil
	})
	if err != nil {
		return fmt.Errorf("wait until all stacks are Ready, %s: %w", last, err)
	}
	return nil
}

// rest measures the operator when nothing happens.
func (w *world) rest(ctx context.Context, o options) error {
	if err := pause.For(ctx, settling); err != nil {
		return err
	}
	before, err := scrape(ctx)
	if err != nil {
		return err
	}
	if err := pause.For(ctx, o.steady); err != nil {
		return err
	}
	after, err := scrape(ctx)
	if err != nil {
		return err
	}
	var reads, writes float64
	for method, n := range requests(after) {
		n -= requests(before)[method]
		if method == http.MethodGet {
			reads += n
		} else {
			writes += n
		}
	}
	perSecond := reads / o.steady.Seconds()
	w.tell("requests that write, in "+o.steady.String()+" of rest", fmt.Sprintf("%.0f", writes), "0", writes == 0)
	w.tell("requests that read, a second", fmt.Sprintf("%.2f", perSecond), "≤ 1", perSecond <= mostReads)
	passes, p99 := quantile(passTimes(before), passTimes(after), 0.99)
	w.tell(fmt.Sprintf("a pass over a stack that changes nothing, p99 of %d", passes), p99.Round(100*time.Microsecond).String(), "< 20 ms", passes > 0 && p99 < mostPassTime)
	resident, err := w.memory("VmRSS")
	if err != nil {
		return err
	}
	w.tell("the operator's memory at rest (RSS)", fmt.Sprintf("%d MiB", resident>>20), "≤ 256 MiB", resident <= mostMemory)
	return nil
}

// beside measures how soon stacks are looked at when somebody asks, without and with others whose Kafka does not answer.
func (w *world) beside(ctx context.Context, o options) error {
	alone, err := w.asked(ctx, o)
	if err != nil {
		return err
	}
	for i := range o.dead {
		if err := w.create(ctx, w.stack(namespace(i%o.namespaces), "dead-"+name(i), o.stacks+i, w.mute.Addr().String())); err != nil {
			return err
		}
	}
	if err := pause.For(ctx, 20*time.Second); err != nil {
		return err
	}
	beside, err := w.asked(ctx, o)
	if err != nil {
		return err
	}
	// Everything below a tenth of a second is noise on a busy machine.
	w.tell(fmt.Sprintf("a stack is looked at when asked, p50 and p99 of %d", probes), fmt.Sprintf("%s, %s", alone[probes/2], alone[probes*99/100]), "", true)
	w.tell(fmt.Sprintf("the same beside %d stacks whose Kafka takes connections and says nothing", o.dead), fmt.Sprintf("%s, %s", beside[probes/2], beside[probes*99/100]),
		"no slower", beside[probes*99/100] < alone[probes*99/100]+100*time.Millisecond)
	return nil
}

// asked are the times that it takes until stacks are looked at, in order.
func (w *world) asked(ctx context.Context, o options) ([]time.Duration, error) {
	var out []time.Duration
	for range probes {
		i := rand.IntN(o.stacks) //nolint:gosec // any will do
		stack := &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: namespace(i % o.namespaces), Name: name(i)}}
		events, err := w.client.Watch(ctx, &v1alpha1.AtlasStackList{}, ctrlclient.InNamespace(stack.Namespace), ctrlclient.MatchingFields{"metadata.name": stack.Name})
		if err != nil {
			return nil, fmt.Errorf("watch a stack: %w", err)
		}
		begin := time.Now()
		value := begin.Format(time.RFC3339Nano)
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.ReconcileRequestAnnotation, value)
		err = w.client.Patch(ctx, stack, ctrlclient.RawPatch("application/merge-patch+json", []byte(patch)))
		if err != nil {
			events.Stop()
			return nil, fmt.Errorf("ask for a stack: %w", err)
		}
		for event := range events.ResultChan() {
			if s, ok := event.Object.(*v1alpha1.AtlasStack); ok && s.Status.LastHandledReconcileAt == value {
				break
			}
		}
		events.Stop()
		out = append(out, time.Since(begin).Round(time.Millisecond))
	}
	slices.Sort(out)
	return out, nil
}

// restart ends the operator and starts it again: no pod may notice.
func (w *world) restart(ctx context.Context, o options) error {
	before, err := w.deployments(ctx)
	if err != nil {
		return err
	}
	if err := w.quit(); err != nil {
		return err
	}
	if err := w.run(ctx); err != nil {
		return err
	}
	if err := pause.For(ctx, settling); err != nil {
		return err
	}
	after, err := w.deployments(ctx)
	if err != nil {
		return err
	}
	changed := 0
	for name, generation := range after {
		if before[name] != generation {
			changed++
		}
	}
	w.tell(fmt.Sprintf("of %d Deployments, changed by a restart of the operator", len(after)), fmt.Sprint(changed), "0", changed == 0 && len(after) >= 4*o.stacks)
	return nil
}

// deployments are the generations of all.
func (w *world) deployments(ctx context.Context) (map[string]int64, error) {
	list := &appsv1.DeploymentList{}
	if err := w.client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("list the Deployments: %w", err)
	}
	out := map[string]int64{}
	for i := range list.Items {
		out[list.Items[i].Namespace+"/"+list.Items[i].Name] = list.Items[i].Generation
	}
	return out, nil
}

type families = map[string]*dto.MetricFamily

func scrape(ctx context.Context) (families, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+operatorMetrics+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the metrics: %w", err)
	}
	request.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim))) // the one with native histograms
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the operator's metrics: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	decoder, out := expfmt.NewDecoder(response.Body, expfmt.ResponseFormat(response.Header)), families{}
	for {
		family := &dto.MetricFamily{}
		if err := decoder.Decode(family); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the operator's metrics: %w", err)
		}
		out[family.GetName()] = family
	}
}

// requests are those that the operator has sent to the API server, by method. Watches count when they begin only.
func requests(of families) map[string]float64 {
	out := map[string]float64{}
	for _, m := range of["rest_client_requests_total"].GetMetric() {
		out[label(m, "method")] += m.GetCounter().GetValue()
	}
	return out
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// quantile is a quantile of the passes over stacks between two scrapes, taken in proportion within a bucket.
func quantile(from, to *dto.Histogram, q float64) (passes uint64, at time.Duration) {
	passes = to.GetSampleCount() - from.GetSampleCount()
	counts := buckets(to, to.GetSchema())
	for i, n := range buckets(from, to.GetSchema()) {
		counts[i] -= n
	}
	below, want := 0.0, q*float64(passes)
	for _, i := range slices.Sorted(maps.Keys(counts)) {
		n := float64(counts[i])
		if n > 0 && below+n >= want {
			lower, upper := upperBound(i-1, to.GetSchema()), upperBound(i, to.GetSchema())
			return passes, time.Duration((lower + (upper-lower)*(want-below)/n) * float64(time.Second))
		}
		below += n
	}
	return passes, 0
}

// buckets are the counts of a native histogram by bucket, as many to a doubling as the schema says. A histogram merges its buckets in pairs when there are too many.
func buckets(h *dto.Histogram, schema int32) map[int]int64 {
	out, i, n, deltas := map[int]int64{}, 0, int64(0), h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		i += int(span.GetOffset())
		for range span.GetLength() {
			n += deltas[0]
			deltas = deltas[1:]
			out[(i-1)>>(h.GetSchema()-schema)+1] += n
			i++
		}
	}
	return out
}

// upperBound of a bucket is a power of 2^(2^-schema).
func upperBound(bucket int, schema int32) float64 {
	return math.Exp2(math.Ldexp(float64(bucket), -int(schema)))
}

func passTimes(of families) *dto.Histogram {
	for _, m := range of["controller_runtime_reconcile_time_seconds"].GetMetric() {
		if strings.EqualFold(label(m, "controller"), "atlasstack") {
			return m.GetHistogram()
		}
	}
	return nil
}
