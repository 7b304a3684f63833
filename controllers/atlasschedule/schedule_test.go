package atlasschedule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	platformv1alpha1 "github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/rbactest"
	"github.com/atlas-platform/atlas/internal/testenv"
)

// operatorConfig is of a user who has the operator's generated role and no other right; what it is used for is compared with the rights that this package asks for.
var (
	testConfig, operatorConfig *rest.Config
	testScheme                 = runtime.NewScheme()
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if os.Getenv(testenv.EnvtestAssets) == "" {
		return m.Run(), nil // setup says what is missing
	}
	if err := errors.Join(clientgoscheme.AddToScheme(testScheme), platformv1alpha1.AddToScheme(testScheme)); err != nil {
		return 1, err
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd")}, ErrorIfCRDPathMissing: true, Scheme: testScheme}
	// As on OpenShift: who has an owner's deletion wait for a child needs the right to its finalizers, which the operator does not have.
	env.ControlPlane.GetAPIServer().Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	if testConfig, err = env.Start(); err != nil {
		return 1, fmt.Errorf("start the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	var rights rbactest.Recorder
	if operatorConfig, err = rights.Operator(env, testScheme); err != nil {
		return 1, err
	}
	if code = m.Run(); code != 0 {
		return code, nil
	}
	// An event is patched when it repeats itself, which is up to the library.
	return 0, rights.Check(".", "events.k8s.io/events patch")
}

type testBundle struct {
	t          *testing.T
	client     client.Client
	asOperator client.Client // with the operator's rights, and no cache
	namespace  string
	r          *Reconciler
	now        time.Time
	events     *events.FakeRecorder
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	testenv.Require(t, testenv.EnvtestAssets)
	k8s, err := client.New(testConfig, client.Options{Scheme: testScheme})
	require.NoError(t, err)
	operator, err := client.New(operatorConfig, client.Options{Scheme: testScheme})
	require.NoError(t, err)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "atlasschedule-"}}
	require.NoError(t, k8s.Create(t.Context(), namespace))
	b := &testBundle{t: t, client: k8s, asOperator: operator, namespace: namespace.Name, events: events.NewFakeRecorder(1000)}
	b.r = &Reconciler{Client: operator, Reader: operator, Recorder: b.events, Clock: func() time.Time { return b.now }}
	return b
}

// create makes an hourly schedule, changed, and sets the clock to a quarter of an hour before its first tick.
func (b *testBundle) create(change func(*platformv1alpha1.AtlasScheduleSpec)) *platformv1alpha1.AtlasSchedule {
	b.t.Helper()
	schedule := &platformv1alpha1.AtlasSchedule{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "hourly"},
		Spec: platformv1alpha1.AtlasScheduleSpec{
			Schedule: "0 * * * *",
			JobTemplate: platformv1alpha1.AtlasJobTemplate{
				Metadata: platformv1alpha1.AtlasJobTemplateMetadata{Labels: map[string]string{"team": "search"}, Annotations: map[string]string{"why": "drift"}},
				Spec: platformv1alpha1.AtlasJobDefinition{
					StackRef:     platformv1alpha1.AtlasStackReference{Name: "atlas"},
					AtlasJobWork: platformv1alpha1.AtlasJobWork{Type: platformv1alpha1.AtlasJobTypeReindex, Reindex: &platformv1alpha1.ReindexJob{}},
				},
			},
		},
	}
	if change != nil {
		change(&schedule.Spec)
	}
	require.NoError(b.t, b.client.Create(b.t.Context(), schedule))
	b.now = schedule.CreationTimestamp.UTC().Truncate(time.Hour).Add(2*time.Hour - 15*time.Minute)
	return schedule
}

func (b *testBundle) reconcile() (*platformv1alpha1.AtlasSchedule, ctrl.Result, error) {
	b.t.Helper()
	key := client.ObjectKey{Namespace: b.namespace, Name: "hourly"}
	result, err := b.r.Reconcile(b.t.Context(), ctrl.Request{NamespacedName: key})
	schedule := &platformv1alpha1.AtlasSchedule{}
	require.NoError(b.t, b.client.Get(b.t.Context(), key, schedule))
	return schedule, result, err
}

// skip has the first tick, the one before create's time, be over: it is missed and made up for.
func (b *testBundle) skip() {
	b.t.Helper()
	_, _, err := b.reconcile()
	require.NoError(b.t, err)
	for _, job := range b.jobs() {
		require.NoError(b.t, b.client.Delete(b.t.Context(), &job))
	}
	b.recorded()
}

func (b *testBundle) jobs() []platformv1alpha1.AtlasJob {
	b.t.Helper()
	var list platformv1alpha1.AtlasJobList
	require.NoError(b.t, b.client.List(b.t.Context(), &list, client.InNamespace(b.namespace)))
	slices.SortFunc(list.Items, func(x, y platformv1alpha1.AtlasJob) int { return x.CreationTimestamp.Compare(y.CreationTimestamp.Time) })
	return list.Items
}

func (b *testBundle) finish(job *platformv1alpha1.AtlasJob, phase platformv1alpha1.AtlasJobPhase) {
	b.t.Helper()
	job.Status.Phase = phase
	job.Status.CompletionTime = &metav1.Time{Time: b.now}
	require.NoError(b.t, b.client.Status().Update(b.t.Context(), job))
}

func (b *testBundle) recorded() (out []string) {
	for {
		select {
		case event := <-b.events.Events:
			out = append(out, event)
		default:
			return out
		}
	}
}

func requireCondition(t *testing.T, schedule *platformv1alpha1.AtlasSchedule, kind string, status metav1.ConditionStatus, reason, says string) {
	t.Helper()
	condition := meta.FindStatusCondition(schedule.Status.Conditions, kind)
	require.NotNil(t, condition, kind)
	require.Equal(t, status, condition.Status)
	require.Equal(t, reason, condition.Reason)
	require.Contains(t, condition.Message, says)
	require.Equal(t, schedule.Generation, condition.ObservedGeneration)
}

func TestATickMakesOneJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(nil)
	b.skip()
	b.now = b.now.Add(15*time.Minute + 3*time.Second)
	tick := b.now.Truncate(time.Hour)
	for range 3 {
		schedule, result, err := b.reconcile()
		require.NoError(t, err)
		require.Equal(t, time.Hour-3*time.Second+early, result.RequeueAfter)
		require.True(t, schedule.Status.LastScheduleTime.Time.Equal(tick))
		require.True(t, schedule.Status.NextScheduleTime.Time.Equal(tick.Add(time.Hour)))
		require.Equal(t, schedule.Generation, schedule.Status.ObservedGeneration)
		requireCondition(t, schedule, platformv1alpha1.ConditionReady, metav1.ConditionTrue, "Scheduled", "")
		jobs := b.jobs()
		require.Len(t, jobs, 1)
		job := jobs[0]
		require.Equal(t, fmt.Sprintf("hourly-%d", tick.Unix()/60), job.Name)
		require.Equal(t, []string{job.Name}, schedule.Status.Active)
		require.Equal(t, map[string]string{"team": "search", platformv1alpha1.ScheduleLabel: "hourly"}, job.Labels)
		require.Equal(t, "drift", job.Annotations["why"])
		require.Equal(t, tick.Format(time.RFC3339), job.Annotations[platformv1alpha1.ScheduledAtAnnotation])
		require.True(t, metav1.IsControlledBy(&job, schedule))
		require.Equal(t, platformv1alpha1.AtlasJobTypeReindex, job.Spec.Type)
	}
	job := b.jobs()[0]
	b.finish(&job, platformv1alpha1.AtlasJobSucceeded)
	schedule, _, err := b.reconcile()
	require.NoError(t, err)
	require.Empty(t, schedule.Status.Active)
	require.True(t, schedule.Status.LastSuccessfulTime.Time.Equal(b.now.Truncate(time.Second)))
	require.Equal(t, []string{"Normal JobMade Made AtlasJob " + job.Name + "."}, b.recorded())
}

// TestAnOperatorThatDiesAtAnyPointMakesOneJobATick fails each call in turn, once before and once after it is done.
func TestAnOperatorThatDiesAtAnyPointMakesOneJobATick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(func(s *platformv1alpha1.AtlasScheduleSpec) { s.SuccessfulJobsHistoryLimit = new(int32(1000)) })
	b.skip()
	b.now = b.now.Add(15 * time.Minute)
	made := 0
	for dies := 1; ; dies++ {
		b.now = b.now.Add(time.Hour)
		mortal := &mortalClient{Client: b.asOperator, left: dies}
		b.r.Client, b.r.Reader = mortal, mortal
		_, _, err := b.reconcile()
		survived := err == nil && mortal.left > 0
		b.r.Client, b.r.Reader = b.asOperator, b.asOperator
		for range 2 {
			_, _, err := b.reconcile()
			require.NoError(t, err)
		}
		made++
		require.Len(t, b.jobs(), made)
		if survived {
			break
		}
	}
	require.GreaterOrEqual(t, made, 4, "get, list, get, create, patch")
}

// mortalClient works left times, and then fails: every other time after the deed was done.
type mortalClient struct {
	client.Client
	left int
}

var errDead = errors.New("the operator was killed")

func (c *mortalClient) do(deed func() error) error {
	c.left--
	if c.left < 0 {
		return errDead
	}
	err := deed()
	if c.left == 0 {
		return errDead
	}
	return err
}

func (c *mortalClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	return c.do(func() error { return c.Client.Get(ctx, key, o, options...) })
}

func (c *mortalClient) List(ctx context.Context, o client.ObjectList, options ...client.ListOption) error {
	return c.do(func() error { return c.Client.List(ctx, o, options...) })
}

func (c *mortalClient) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	return c.do(func() error { return c.Client.Create(ctx, o, options...) })
}

func (c *mortalClient) Status() client.SubResourceWriter {
	return mortalStatus{c.Client.Status(), c}
}

type mortalStatus struct {
	client.SubResourceWriter
	c *mortalClient
}

func (s mortalStatus) Patch(ctx context.Context, o client.Object, p client.Patch, options ...client.SubResourcePatchOption) error {
	return s.c.do(func() error { return s.SubResourceWriter.Patch(ctx, o, p, options...) })
}

// staleClient shows a schedule as it was.
type staleClient struct {
	client.Client
	schedule *platformv1alpha1.AtlasSchedule
}

func (c staleClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	schedule, ok := o.(*platformv1alpha1.AtlasSchedule)
	if !ok {
		return c.Client.Get(ctx, key, o, options...)
	}
	c.schedule.DeepCopyInto(schedule)
	return nil
}

func TestAStaleCacheMakesNothingTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(nil)
	b.skip()
	stale, _, err := b.reconcile()
	require.NoError(t, err)
	b.now = b.now.Add(15 * time.Minute)
	_, _, err = b.reconcile()
	require.NoError(t, err)
	job := b.jobs()[0]
	require.NoError(t, b.client.Delete(t.Context(), &job)) // it had a TTL
	b.r.Client = staleClient{b.asOperator, stale}
	_, result, err := b.reconcile()
	require.NoError(t, err)
	require.Equal(t, recheck, result.RequeueAfter)
	require.Empty(t, b.jobs())
}

func TestMissedTicks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		deadline *int64
		late     time.Duration
		made     bool
	}{
		"without a deadline":      {nil, 50 * time.Minute, true},
		"within the deadline":     {new(int64(600)), 10 * time.Minute, true},
		"later than the deadline": {new(int64(600)), 10*time.Minute + time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.create(nil)
			b.skip()
			schedule, _, err := b.reconcile()
			require.NoError(t, err)
			schedule.Spec.StartingDeadlineSeconds = c.deadline
			require.NoError(t, b.client.Update(t.Context(), schedule))
			last := b.now.Add(15 * time.Minute).Add(5 * time.Hour) // and five before it
			b.now = last.Add(c.late)
			for range 2 {
				schedule, _, err = b.reconcile()
				require.NoError(t, err)
				require.True(t, schedule.Status.LastScheduleTime.Time.Equal(last))
			}
			if c.made {
				require.Len(t, b.jobs(), 1)
				return
			}
			require.Empty(t, b.jobs())
			events := b.recorded()
			require.Len(t, events, 1)
			require.Contains(t, events[0], "Warning MissedSchedule")
		})
	}
}

func TestConcurrencyPolicies(t *testing.T) {
	t.Parallel()
	for policy, unfinished := range map[platformv1alpha1.AtlasConcurrencyPolicy]int{
		platformv1alpha1.ConcurrencyAllow: 2, platformv1alpha1.ConcurrencyForbid: 1, platformv1alpha1.ConcurrencyReplace: 1,
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.create(func(s *platformv1alpha1.AtlasScheduleSpec) { s.ConcurrencyPolicy = policy })
			b.skip()
			b.now = b.now.Add(15 * time.Minute)
			_, _, err := b.reconcile()
			require.NoError(t, err)
			first := b.jobs()[0]
			b.now = b.now.Add(time.Hour)
			schedule, _, err := b.reconcile()
			require.NoError(t, err)
			jobs := b.jobs()
			require.Len(t, jobs, unfinished)
			switch policy {
			case platformv1alpha1.ConcurrencyForbid:
				require.Equal(t, first.UID, jobs[0].UID)
				requireCondition(t, schedule, platformv1alpha1.ConditionReady, metav1.ConditionTrue, "JobAlreadyActive", first.Name)
				b.finish(&first, platformv1alpha1.AtlasJobFailed)
				schedule, _, err = b.reconcile()
				require.NoError(t, err)
				require.Len(t, b.jobs(), 2, "it waited for the end")
				require.True(t, schedule.Status.LastScheduleTime.Time.Equal(b.now))
			case platformv1alpha1.ConcurrencyReplace:
				require.NotEqual(t, first.UID, jobs[0].UID)
				require.Contains(t, b.recorded(), "Normal JobReplaced Deleted AtlasJob "+first.Name+": the next one is due.")
			}
		})
	}
}

func TestHistoryLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(func(s *platformv1alpha1.AtlasScheduleSpec) {
		s.SuccessfulJobsHistoryLimit, s.FailedJobsHistoryLimit = new(int32(2)), new(int32(0))
	})
	b.skip()
	b.now = b.now.Add(15 * time.Minute)
	var names []string
	for i := range 5 {
		_, _, err := b.reconcile()
		require.NoError(t, err)
		for _, job := range b.jobs() {
			if job.Status.Phase == "" {
				b.finish(&job, map[bool]platformv1alpha1.AtlasJobPhase{true: platformv1alpha1.AtlasJobSucceeded, false: platformv1alpha1.AtlasJobCancelled}[i != 3])
				names = append(names, job.Name)
			}
		}
		b.now = b.now.Add(time.Hour)
	}
	b.now = b.now.Add(-30 * time.Minute)
	_, _, err := b.reconcile()
	require.NoError(t, err)
	var kept []string
	for _, job := range b.jobs() {
		kept = append(kept, job.Name)
	}
	require.ElementsMatch(t, []string{names[2], names[4]}, kept)
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(func(s *platformv1alpha1.AtlasScheduleSpec) { s.Suspend = true })
	schedule, result, err := b.reconcile()
	require.NoError(t, err)
	require.Zero(t, result)
	require.Empty(t, b.jobs())
	require.Nil(t, schedule.Status.NextScheduleTime)
	requireCondition(t, schedule, platformv1alpha1.ConditionReady, metav1.ConditionTrue, "Suspended", "")
	schedule.Spec.Suspend = false
	require.NoError(t, b.client.Update(t.Context(), schedule))
	_, _, err = b.reconcile()
	require.NoError(t, err)
	require.Len(t, b.jobs(), 1)
}

func TestWhatIsNotValid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*platformv1alpha1.AtlasScheduleSpec)
		says   string
	}{
		"four fields":       {func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "* * * *" }, "schedule"},
		"every 5 minutes":   {func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "@every 5m" }, "schedule"},
		"a time zone in it": {func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "TZ=UTC * * * * *" }, "schedule"},
		"Local":             {func(s *platformv1alpha1.AtlasScheduleSpec) { s.TimeZone = "Local" }, "own time zone"},
		"a path":            {func(s *platformv1alpha1.AtlasScheduleSpec) { s.TimeZone = "../etc/passwd" }, "timeZone"},
		"a policy":          {func(s *platformv1alpha1.AtlasScheduleSpec) { s.ConcurrencyPolicy = "Never" }, "concurrencyPolicy"},
		"no deadline":       {func(s *platformv1alpha1.AtlasScheduleSpec) { s.StartingDeadlineSeconds = new(int64(0)) }, "startingDeadlineSeconds"},
		"a bad template":    {func(s *platformv1alpha1.AtlasScheduleSpec) { s.JobTemplate.Spec.Reindex = nil }, "reindex is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			schedule := &platformv1alpha1.AtlasSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "bad"}}
			schedule.Spec.Schedule = "@daily"
			schedule.Spec.JobTemplate.Spec.StackRef.Name = "atlas"
			schedule.Spec.JobTemplate.Spec.Type = platformv1alpha1.AtlasJobTypeReindex
			schedule.Spec.JobTemplate.Spec.Reindex = &platformv1alpha1.ReindexJob{}
			c.change(&schedule.Spec)
			require.ErrorContains(t, b.client.Create(t.Context(), schedule), c.says)
		})
	}
	for name, change := range map[string]func(*platformv1alpha1.AtlasScheduleSpec){
		"a minute that isn't":    func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "61 * * * *" },
		"a time zone that isn't": func(s *platformv1alpha1.AtlasScheduleSpec) { s.TimeZone = "Europe/Atlantis" },
		"the 30th of February":   func(s *platformv1alpha1.AtlasScheduleSpec) { s.Schedule = "0 0 30 2 *" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.create(change)
			schedule, result, err := b.reconcile()
			require.NoError(t, err)
			require.Zero(t, result)
			requireCondition(t, schedule, platformv1alpha1.ConditionStalled, metav1.ConditionTrue, "InvalidSchedule", "Correct")
			requireCondition(t, schedule, platformv1alpha1.ConditionReady, metav1.ConditionFalse, "InvalidSchedule", "Correct")
			schedule.Spec.Schedule, schedule.Spec.TimeZone = "@hourly", "Europe/Vienna" // a template can change, and so can a schedule
			schedule.Spec.JobTemplate.Spec.Priority = new(int32(2))
			require.NoError(t, b.client.Update(t.Context(), schedule))
			schedule, _, err = b.reconcile()
			require.NoError(t, err)
			require.Nil(t, meta.FindStatusCondition(schedule.Status.Conditions, platformv1alpha1.ConditionStalled))
		})
	}
	t.Run("a name that leaves no room", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		schedule := &platformv1alpha1.AtlasSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: fmt.Sprintf("%053d", 1)}}
		schedule.Spec.Schedule = "@daily"
		schedule.Spec.JobTemplate.Spec.StackRef.Name = "atlas"
		schedule.Spec.JobTemplate.Spec.Type = platformv1alpha1.AtlasJobTypeReindex
		schedule.Spec.JobTemplate.Spec.Reindex = &platformv1alpha1.ReindexJob{}
		require.ErrorContains(t, b.client.Create(t.Context(), schedule), "52 characters")
	})
}

func TestAJobOfSomebodyElseStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	schedule := b.create(nil)
	b.skip()
	b.now = b.now.Add(15 * time.Minute)
	theirs, err := b.r.jobAt(schedule, b.now)
	require.NoError(t, err)
	theirs.OwnerReferences, theirs.Labels = nil, nil
	require.NoError(t, b.client.Create(t.Context(), theirs))
	schedule, _, err = b.reconcile()
	require.NoError(t, err)
	require.True(t, schedule.Status.LastScheduleTime.Time.Equal(b.now))
	require.Equal(t, theirs.UID, b.jobs()[0].UID)
	require.Contains(t, b.recorded()[0], "Warning NameTaken")
}

// TestManager runs the controller with its cache and watches: the end of a job wakes the schedule that waits for it.
func TestManager(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.create(func(s *platformv1alpha1.AtlasScheduleSpec) { s.ConcurrencyPolicy = platformv1alpha1.ConcurrencyForbid })
	b.now = b.now.Add(time.Hour)
	mgr, err := ctrl.NewManager(operatorConfig, ctrl.Options{
		Scheme: testScheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{b.namespace: {}}},
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	require.NoError(t, err)
	times := make(chan time.Time, 1)
	times <- b.now
	now := func() time.Time { at := <-times; times <- at; return at }
	r := &Reconciler{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Recorder: mgr.GetEventRecorder("atlasschedule"), Clock: now}
	require.NoError(t, r.SetupWithManager(mgr))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(t.Context()) }()
	t.Cleanup(func() { require.NoError(t, <-done) })
	require.Eventually(t, func() bool { return len(b.jobs()) == 1 }, time.Minute, 20*time.Millisecond)
	<-times
	times <- b.now.Add(time.Hour)
	job := b.jobs()[0]
	b.finish(&job, platformv1alpha1.AtlasJobSucceeded)
	require.Eventually(t, func() bool { return len(b.jobs()) == 2 }, time.Minute, 20*time.Millisecond)
}
