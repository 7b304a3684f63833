package atlasstack

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// denied is that the cluster does not let the operator write an object, which is no mistake in a field of it: a policy, a webhook, a quota or the operator's own
// rights are in the way.
type denied struct {
	err error
	// kind is what the object is, as the API server calls it.
	kind, why, wayOut string
}

func (d *denied) Error() string {
	return fmt.Sprintf("the cluster does not admit %s of the stack: %s: %s; it is tried again", d.kind, d.why, d.wayOut)
}

func (d *denied) Unwrap() error { return d.err }

// denial returns what of err is a denial, nil where it is none.
func denial(err error) *denied {
	if d := (*denied)(nil); errors.As(err, &d) {
		return d
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return nil
	}
	answer := status.Status() // a policy's or a webhook's may have any reason, and causes
	way := admission(answer.Message)
	if way == "" && answer.Code != http.StatusForbidden {
		return nil
	}
	d := &denied{err: err, kind: "objects", why: answer.Message, wayOut: cmp.Or(way, "ask who manages the cluster")}
	if answer.Details != nil {
		d.kind = cmp.Or(answer.Details.Kind, d.kind)
	}
	// Without the object's name: the same is in the way of those of several roles, and is told once.
	if _, why, ok := strings.Cut(d.why, " is forbidden: "); ok {
		d.why = why
	}
	return d
}

// admission says who can do something about a message of the API server's admission, "" for any other message.
func admission(message string) string {
	const policy = "change what it objects to, where the spec sets that, or have who manages it let the stack's objects pass"
	for _, known := range []struct{ text, wayOut string }{
		{"failed calling webhook", "have who manages the webhook bring it back"},
		{"admission webhook ", policy},
		{"AdmissionPolicy '", policy},
		{"exceeded quota: ", "have who manages the namespace raise the quota, or make room"},
		{"failed quota: ", "set what the quota asks for, or have who manages the namespace change it"},
		{"unable to create new content in namespace ", "the namespace is being deleted: wait, and create the stack anew"},
		{"cannot set an ownerRef on ", "give the operator the rights of its chart"},
		{`" cannot `, "give the operator the rights of its chart"},
	} {
		if strings.Contains(message, known.text) {
			return known.wayOut
		}
	}
	return ""
}
