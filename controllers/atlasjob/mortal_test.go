package atlasjob

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// life is that of an operator. It ends with one of its calls, to Kubernetes or to Atlas: just before that call is done or, with after, once it is and
// before anybody hears of it.
type life struct {
	mu    sync.Mutex
	left  int64
	after bool
	die   func()
}

var errKilled = errors.New("the operator was killed")

func (l *life) do(call func() error) error {
	l.mu.Lock()
	l.left--
	last, over := l.left == 0, l.left < 0
	if last {
		defer l.die()
	}
	l.mu.Unlock()
	if over || last && !l.after {
		return errKilled
	}
	err := call()
	if last {
		return errKilled
	}
	return err
}

// mortal is the client of an operator whose life may end.
type mortal struct {
	client.Client
	life *life
}

func (m mortal) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	return m.life.do(func() error { return m.Client.Get(ctx, key, o, options...) })
}

func (m mortal) Patch(ctx context.Context, o client.Object, p client.Patch, options ...client.PatchOption) error {
	return m.life.do(func() error { return m.Client.Patch(ctx, o, p, options...) })
}

func (m mortal) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	return m.life.do(func() error { return m.Client.Delete(ctx, o, options...) })
}

func (m mortal) Status() client.SubResourceWriter { return mortalStatus{m.Client.Status(), m.life} }

type mortalStatus struct {
	client.SubResourceWriter
	life *life
}

func (m mortalStatus) Patch(ctx context.Context, o client.Object, p client.Patch, options ...client.SubResourcePatchOption) error {
	return m.life.do(func() error { return m.SubResourceWriter.Patch(ctx, o, p, options...) })
}

type mortalReader struct {
	client.Reader
	life *life
}

func (m mortalReader) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	return m.life.do(func() error { return m.Reader.Get(ctx, key, o, options...) })
}

type mortalTransport struct {
	http.RoundTripper
	life *life
}

func (m mortalTransport) RoundTrip(request *http.Request) (answer *http.Response, err error) {
	err = m.life.do(func() error {
		answer, err = m.RoundTripper.RoundTrip(request)
		return err
	})
	if err != nil && answer != nil {
		_ = answer.Body.Close()
		answer = nil
	}
	return answer, err
}
