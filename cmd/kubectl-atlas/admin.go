package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

func adminCommand(where *where) *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Care for platform admins", GroupID: "change", Args: cobra.NoArgs}
	var stackName string
	var generate bool
	create := &cobra.Command{
		Use: "create EMAIL", Short: "Create a platform admin", Args: cobra.ExactArgs(1),
		Long: "Create a platform admin. The password is asked for, or read from standard input where that is no terminal, or made and printed once with --generate-password. " +
			"It runs `atlas admin create` in a pod of the API: you need the right to create pods/exec.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.connect()
			if err != nil {
				return err
			}
			secret, err := password(cmd, generate)
			if err != nil {
				return err
			}
			var name []string
			if stackName != "" {
				name = []string{stackName}
			}
			if err := c.createAdmin(cmd.Context(), name, args[0], secret); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is a platform admin\n", args[0])
			if generate {
				fmt.Fprintf(cmd.OutOrStdout(), "password: %s\n", secret)
			}
			return nil
		},
	}
	create.Flags().StringVar(&stackName, "stack", "", "the stack, where the namespace has several")
	create.Flags().BoolVar(&generate, "generate-password", false, "make a password and print it once")
	cmd.AddCommand(create)
	return cmd
}

func password(cmd *cobra.Command, generate bool) (string, error) {
	if generate {
		return rand.Text(), nil
	}
	if in, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		fmt.Fprint(cmd.ErrOrStderr(), "Password: ")
		secret, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return string(secret), nil
	}
	secret, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 4096))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(string(secret), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", errors.New("the password is empty: type it, or pass it by standard input, or use --generate-password")
	}
	return line, nil
}

// createAdmin runs the command in a pod of the API. The password goes there by standard input: arguments can be seen by others.
func (c *cluster) createAdmin(ctx context.Context, args []string, email, secret string) error {
	stack, err := c.stack(ctx, args)
	if err != nil {
		return err
	}
	pod, err := c.readyPod(ctx, stack, "api")
	if err != nil {
		return err
	}
	request := c.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: "atlas", Command: []string{"/atlas", "admin", "create", "--", email}, Stdin: true, Stdout: true, Stderr: true,
		}, clientgoscheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.URL().String())
	if err != nil {
		return fmt.Errorf("run a command in pod %s: %w", pod.Name, err)
	}
	var stderr bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader(secret + "\n"), Stdout: io.Discard, Stderr: &stderr})
	if err != nil {
		if said := lastLine(stderr.String()); said != "" {
			return errors.New(strings.TrimPrefix(said, "error: "))
		}
		return fmt.Errorf("run atlas admin create in pod %s: %w", pod.Name, err)
	}
	return nil
}

// readyPod is a pod of a role that is ready.
func (c *cluster) readyPod(ctx context.Context, stack *v1alpha1.AtlasStack, role string) (*corev1.Pod, error) {
	pods := &corev1.PodList{}
	err := c.List(ctx, pods, client.InNamespace(stack.Namespace), client.MatchingLabels{stackLabel: stack.Name, roleLabel: role})
	if err != nil {
		return nil, fmt.Errorf("list the pods: %w", err)
	}
	i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp.IsZero() && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	})
	if i < 0 {
		return nil, fmt.Errorf("AtlasStack %s has no %s pod that is ready: `kubectl atlas status` says why", stack.Name, role)
	}
	return &pods.Items[i], nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
