package atlasstack

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
	"github.com/atlas-platform/atlas/controllers/apply"
	"github.com/atlas-platform/atlas/controllers/workloads"
)

// referencesRetry is only a safety net: the watch on Secrets is what notices a repair.
const referencesRetry = 30 * time.Second

// problem is one thing that is wrong with a Secret.
type problem struct{ reason, message string }

func (e *problem) Error() string { return e.message }

// resolveReferences reads every Secret that the stack uses, makes those that it generates, and names everything that is wrong.
func (r *Reconciler) resolveReferences(ctx context.Context, p *pass) (string, error) {
	var problems []*problem
	read := func(from workloads.SecretKey, generate func() (map[string][]byte, error), check func([]byte) error) ([]byte, error) {
		value, err := r.readKey(ctx, p.stack, from, generate)
		if err == nil {
			err = checkValue(from, value, check)
		}
		var wrong *problem
		if errors.As(err, &wrong) {
			problems = append(problems, wrong)
			return nil, nil
		}
		return value, err
	}

	var err error
	if p.secrets.DatabaseURL, err = read(workloads.DatabaseURL(p.stack), nil, checkDatabaseURL); err != nil {
		return "", err
	}
	if p.secrets.SigningKey, err = read(workloads.SigningKey(p.stack), generateSigningKey, checkSigningKey); err != nil {
		return "", err
	}
	generateAdmin := func() (map[string][]byte, error) {
		return map[string][]byte{
			workloads.AdminEmailKey:    []byte(p.stack.Spec.Auth.Admin.Email),
			workloads.AdminPasswordKey: []byte(rand.Text()),
		}, nil
	}
	if p.secrets.AdminPassword, err = read(workloads.AdminPassword(p.stack), generateAdmin, nil); err != nil {
		return "", err
	}
	p.secrets.Elasticsearch, err = r.readElasticsearch(ctx, p.stack)
	var wrong *problem
	if errors.As(err, &wrong) {
		problems = append(problems, wrong)
	} else if err != nil {
		return "", err
	}
	if len(problems) == 0 {
		return "every Secret and key exists", nil
	}
	messages := make([]string, 0, len(problems))
	for _, wrong := range problems {
		messages = append(messages, wrong.message)
	}
	return "", &apply.Waiting{Reason: problems[0].reason, Message: strings.Join(messages, "; "), After: referencesRetry}
}

// readKey returns one key of a Secret, which it makes first when it is to be generated and absent. A Secret that exists is
// never changed.
func (r *Reconciler) readKey(ctx context.Context, stack *v1alpha1.AtlasStack, from workloads.SecretKey, generate func() (map[string][]byte, error)) ([]byte, error) {
	secret, err := r.readSecret(ctx, stack.Namespace, from.Name, "the key "+from.Key)
	var absent *problem
	if from.Generated && errors.As(err, &absent) {
		if err := r.createSecret(ctx, stack, from.Name, generate); err != nil {
			return nil, err
		}
		secret, err = r.readSecret(ctx, stack.Namespace, from.Name, "the key "+from.Key)
	}
	if err != nil {
		return nil, err
	}
	value, found := secret.Data[from.Key]
	if !found || len(value) == 0 {
		way := "add it"
		if from.Generated {
			way += ", or delete the Secret to have it generated again"
		}
		return nil, &problem{v1alpha1.ReasonSecretKeyMissing, fmt.Sprintf("Secret %s has no key %s: %s", from.Name, from.Key, way)}
	}
	return value, nil
}

// readSecret reads a Secret; content says what it should hold, for when it does not exist.
func (r *Reconciler) readSecret(ctx context.Context, namespace, name, content string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, &problem{v1alpha1.ReasonSecretNotFound, fmt.Sprintf("Secret %s does not exist in namespace %s: create it with %s", name, namespace, content)}
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return secret, nil
}

// createSecret makes a generated Secret. It has no owner, so that a stack created again on the same database finds it.
func (r *Reconciler) createSecret(ctx context.Context, stack *v1alpha1.AtlasStack, name string, generate func() (map[string][]byte, error)) error {
	data, err := generate()
	if err != nil {
		return fmt.Errorf("generate Secret %s: %w", name, err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: stack.Namespace, Name: name, Labels: map[string]string{
			workloads.StackLabel:           stack.Name,
			"app.kubernetes.io/part-of":    "atlas",
			"app.kubernetes.io/managed-by": "atlas-operator",
		}},
		Data: data,
	}
	if err := r.Client.Create(ctx, secret, client.FieldOwner(apply.FieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Secret %s: %w", name, err)
	}
	return nil
}

// readElasticsearch returns the credentials by their keys: an API key, or else user and password.
func (r *Reconciler) readElasticsearch(ctx context.Context, stack *v1alpha1.AtlasStack) (map[string][]byte, error) {
	ref := stack.Spec.Elasticsearch.CredentialsSecretRef
	if ref == nil {
		return nil, nil
	}
	secret, err := r.readSecret(ctx, stack.Namespace, ref.Name, "the key apiKey, or username and password")
	if err != nil {
		return nil, err
	}
	if key := secret.Data[workloads.ElasticAPIKeyKey]; len(key) > 0 {
		return map[string][]byte{workloads.ElasticAPIKeyKey: key}, nil
	}
	user, password := secret.Data[workloads.ElasticUsernameKey], secret.Data[workloads.ElasticPasswordKey]
	if len(user) == 0 || len(password) == 0 {
		return nil, &problem{v1alpha1.ReasonSecretKeyMissing, fmt.Sprintf(
			"Secret %s has neither the key apiKey nor both username and password: add one or the other", ref.Name)}
	}
	return map[string][]byte{workloads.ElasticUsernameKey: user, workloads.ElasticPasswordKey: password}, nil
}

func checkValue(from workloads.SecretKey, value []byte, check func([]byte) error) error {
	if check == nil {
		return nil
	}
	if err := check(value); err != nil {
		return &problem{v1alpha1.ReasonSecretInvalid, fmt.Sprintf("key %s of Secret %s %v", from.Key, from.Name, err)}
	}
	return nil
}

// checkDatabaseURL never repeats the value, which holds a password.
func checkDatabaseURL(value []byte) error {
	u, err := url.Parse(string(value))
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Host == "" {
		return errors.New("is not a PostgreSQL URI: write postgres://user:password@host:5432/database, percent-encoded, without a newline")
	}
	return nil
}

func checkSigningKey(value []byte) error {
	block, _ := pem.Decode(value)
	if block == nil {
		return errors.New("is not PEM: make one with openssl genpkey -algorithm ed25519")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if _, ok := key.(ed25519.PrivateKey); err != nil || !ok {
		return errors.New("is not an Ed25519 private key in PKCS #8: make one with openssl genpkey -algorithm ed25519")
	}
	return nil
}

func generateSigningKey() (map[string][]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate an Ed25519 key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return map[string][]byte{workloads.SigningKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}, nil
}
