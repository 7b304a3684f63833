package atlasstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
	"github.com/atlas-platform/atlas/internal/pguri"
	"github.com/atlas-platform/atlas/internal/tlsconfig"
	"github.com/atlas-platform/atlas/internal/token"
)

// referencesRetry is only a safety net: the watch on Secrets is what notices a repair.
const referencesRetry = 30 * time.Second

// problem is one thing that is wrong with a Secret.
type problem struct {
	reason, message string
	input           workloads.Input // the one whose value is invalid, or one that the same roles use
}

func (e *problem) Error() string { return e.message }

// resolveReferences reads everything that the stack refers to, makes the Secrets that it generates, and names all that is wrong.
func (r *Reconciler) resolveReferences(ctx context.Context, p *pass) (string, error) {
	objects := objectReader{Reconciler: r, stack: p.stack, read: map[string]content{}}
	inputs, problems, err := objects.values(ctx, func(workloads.Reference) bool { return true })
	if err != nil {
		return "", err
	}
	p.inputs, p.problems, p.auth = inputs, problems, objects.read["Secret/"+workloads.AuthSecretName(p.stack)]
	p.memory.readFrom(p.stack, objects.read)
	if len(problems) == 0 {
		return "every Secret, ConfigMap and key exists", nil
	}
	return "", &apply.Waiting{Reason: problems[0].reason, Message: messages(problems), After: referencesRetry}
}

func messages(problems []*problem) string {
	all := make([]string, 0, len(problems))
	for _, wrong := range problems {
		all = append(all, wrong.message)
	}
	return strings.Join(all, "; ")
}

// choose settles which of several ways to sign in to Elasticsearch is taken. choices are the Secrets in which one was not found.
func choose(stack *v1alpha1.AtlasStack, inputs workloads.Inputs, choices map[string]bool) *problem {
	ref := stack.Spec.Elasticsearch.CredentialsSecretRef
	if ref == nil {
		return nil
	}
	if inputs[workloads.ElasticsearchAPIKey] != nil {
		delete(inputs, workloads.ElasticsearchUsername)
		delete(inputs, workloads.ElasticsearchPassword)
		return nil
	}
	if !choices[ref.Name] || (inputs[workloads.ElasticsearchUsername] != nil && inputs[workloads.ElasticsearchPassword] != nil) {
		return nil
	}
	delete(inputs, workloads.ElasticsearchUsername)
	delete(inputs, workloads.ElasticsearchPassword)
	return &problem{reason: v1alpha1.ReasonSecretKeyMissing, message: fmt.Sprintf(
		"Secret %s has neither the key apiKey nor both username and password: add one or the other", ref.Name)}
}

// checkPair tells whether certificate and key for Kafka go together.
func checkPair(stack *v1alpha1.AtlasStack, inputs workloads.Inputs) *problem {
	certificate, key := inputs[workloads.KafkaCertificate], inputs[workloads.KafkaKey]
	if certificate == nil || key == nil {
		return nil
	}
	if _, err := tlsconfig.Client(nil, certificate, key); err != nil {
		return &problem{v1alpha1.ReasonSecretInvalid, fmt.Sprintf("tls.crt and tls.key of Secret %s are no certificate with its key in PEM",
			stack.Spec.Kafka.TLS.ClientCertificateSecretRef.Name), workloads.KafkaKey}
	}
	return nil
}

// objectReader reads each Secret and ConfigMap once.
type objectReader struct {
	*Reconciler
	stack *v1alpha1.AtlasStack
	read  map[string]content // by kind and name
	last  map[string]content // what stands for an object that is gone
}

// values returns what some of the stack's references lead to, and all that is wrong with them.
func (o *objectReader) values(ctx context.Context, some func(workloads.Reference) bool) (workloads.Inputs, []*problem, error) {
	inputs, choices := workloads.Inputs{}, map[string]bool{}
	var problems []*problem
	for _, ref := range workloads.References(o.stack) {
		if !some(ref) {
			continue
		}
		value, err := o.key(ctx, ref)
		if err == nil && value != nil {
			err = checkValue(o.stack, ref, value)
		}
		var wrong *problem
		switch {
		case errors.As(err, &wrong):
			if !slices.ContainsFunc(problems, func(other *problem) bool { return *other == *wrong }) {
				problems = append(problems, wrong)
			}
		case err != nil:
			return nil, nil, err
		case value != nil:
			inputs[ref.Input] = value
		case ref.Choice:
			choices[ref.Name] = true
		}
	}
	for _, wrong := range []*problem{choose(o.stack, inputs, choices), checkPair(o.stack, inputs)} {
		if wrong != nil {
			problems = append(problems, wrong)
		}
	}
	return inputs, problems, nil
}

// key returns one key of an object. A Secret that is to be generated and absent is made first. What is optional or a choice, and not there, is no error: then
// the value is nil.
func (o *objectReader) key(ctx context.Context, ref workloads.Reference) ([]byte, error) {
	object, err := o.object(ctx, ref)
	var absent *problem
	if ref.Generated && errors.As(err, &absent) {
		if err := o.createSecret(ctx, o.stack, ref); err != nil {
			return nil, err
		}
		object, err = o.object(ctx, ref)
	}
	if err != nil {
		return nil, err
	}
	if value := object.data[ref.Key]; len(value) > 0 {
		return value, nil
	}
	if ref.Choice || ref.Optional {
		return nil, nil
	}
	way := "add it"
	if ref.Generated {
		way += ", or delete the Secret to have it generated again"
	}
	return nil, &problem{reason: v1alpha1.ReasonSecretKeyMissing, message: fmt.Sprintf("%s %s has no key %s: %s", ref.Kind(), ref.Name, ref.Key, way)}
}

// object returns what an object holds, read once in a pass, and from the API server only when it is of another version than the last time.
func (o *objectReader) object(ctx context.Context, ref workloads.Reference) (content, error) {
	id := ref.Kind() + "/" + ref.Name
	if known, ok := o.read[id]; ok {
		return known, nil
	}
	found, err := o.contents.get(ctx, o.Client, o.Reader, ref.Kind(), client.ObjectKey{Namespace: o.stack.Namespace, Name: ref.Name})
	barred := apierrors.IsForbidden(err) && !o.stack.DeletionTimestamp.IsZero() // its namespace goes as well, and the operator's Role there went first
	if last, known := o.last[id]; known && (barred || apierrors.IsNotFound(err)) {
		found, err = last, nil
	}
	if barred && err != nil {
		return content{}, &problem{
			reason: v1alpha1.ReasonSecretNotFound, message: fmt.Sprintf("the operator may not read %s %s any more in namespace %s", ref.Kind(), ref.Name, o.stack.Namespace),
		}
	}
	if apierrors.IsNotFound(err) {
		reason, what := v1alpha1.ReasonSecretNotFound, "the key "+ref.Key
		if ref.ConfigMap {
			reason = v1alpha1.ReasonConfigMapNotFound
		}
		if ref.Choice {
			what = "the key apiKey, or username and password"
		}
		return content{}, &problem{
			reason: reason, message: fmt.Sprintf("%s %s does not exist in namespace %s: create it with %s", ref.Kind(), ref.Name, o.stack.Namespace, what),
		}
	}
	if err != nil {
		return content{}, err
	}
	o.read[id] = found
	return found, nil
}

// createSecret makes a generated Secret. It has no owner, so that a stack created again on the same database finds it.
func (r *Reconciler) createSecret(ctx context.Context, stack *v1alpha1.AtlasStack, ref workloads.Reference) error {
	data := map[string][]byte{workloads.AdminEmailKey: []byte(stack.Spec.Auth.Admin.Email), workloads.AdminPasswordKey: []byte(rand.Text())}
	if ref.Input == workloads.SigningKey {
		key, err := token.GenerateSigningKey()
		if err != nil {
			return fmt.Errorf("generate Secret %s: %w", ref.Name, err)
		}
		data = map[string][]byte{workloads.SigningKeyKey: key, madeKey: []byte(time.Now().UTC().Format(time.RFC3339))}
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: ref.Name, Labels: map[string]string{
			workloads.StackLabel:           stack.Name,
			"app.kubernetes.io/part-of":    "atlas",
			"app.kubernetes.io/managed-by": "atlas-operator",
		}},
		Data: data,
	}
	if err := r.Client.Create(ctx, secret, client.FieldOwner(apply.FieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Secret %s: %w", ref.Name, err)
	}
	return nil
}

// checkValue tells whether a value is what its input has to be.
func checkValue(stack *v1alpha1.AtlasStack, ref workloads.Reference, value []byte) error {
	var err error
	switch ref.Input {
	case workloads.DatabaseURL:
		err = checkDatabaseURL(value, stack.Spec.Postgres.CloudSQL != nil)
	case workloads.SigningKey, workloads.AcceptedKey:
		err = checkSigningKey(value)
	case workloads.DatabaseCA, workloads.KafkaCA, workloads.ElasticsearchCA:
		if _, bad := tlsconfig.Client(value, nil, nil); bad != nil {
			err = errors.New("holds no certificate in PEM")
		}
	default:
	}
	if err != nil {
		return &problem{v1alpha1.ReasonSecretInvalid, fmt.Sprintf("key %s of %s %s %v", ref.Key, ref.Kind(), ref.Name, err), ref.Input}
	}
	return nil
}

// checkDatabaseURL never repeats the value, which holds a password.
func checkDatabaseURL(value []byte, besideThePod bool) error {
	if err := pguri.Check(string(value)); err != nil {
		return err
	}
	u, err := url.Parse(string(value))
	if err != nil {
		return errors.New("is not a URI") // Check has said so already
	}
	if besideThePod && (u.Hostname() != "127.0.0.1" || (u.Port() != "" && u.Port() != "5432")) {
		return errors.New("does not name the connector of postgres.cloudSQL, which is beside the pods: write 127.0.0.1:5432 as host")
	}
	return nil
}

func checkSigningKey(value []byte) error {
	if _, err := token.ParseSigningKey(value); err != nil {
		return errors.New("is not an Ed25519 private key in PEM (PKCS #8): make one with openssl genpkey -algorithm ed25519")
	}
	return nil
}
