package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

// apiPort is the port of the REST API in its pods.
const apiPort = 8080

func openCommand(where *where) *cobra.Command {
	var port int
	var noBrowser bool
	cmd := &cobra.Command{
		Use: "open [STACK]", Short: "Forward a port to the REST API and open its documentation in a browser", GroupID: "look", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := where.connect()
			if err != nil {
				return err
			}
			return c.open(cmd.Context(), cmd.OutOrStdout(), args, port, func(url string) {
				fmt.Fprintf(cmd.OutOrStdout(), "The REST API is at %s until Ctrl-C; its documentation at %s/docs\n", url, url)
				if !noBrowser {
					browse(cmd.Context(), url+"/docs")
				}
			})
		},
	}
	cmd.Flags().IntVar(&port, "port", 0, "the local port; 0 takes a free one")
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address only")
	return cmd
}

// open forwards a port until the context ends, and tells when it does.
func (c *cluster) open(ctx context.Context, out io.Writer, args []string, port int, opened func(url string)) error {
	stack, err := c.stack(ctx, args)
	if err != nil {
		return err
	}
	pod, err := c.readyPod(ctx, stack, "api")
	if err != nil {
		return err
	}
	url := c.kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(pod.Namespace).Name(pod.Name).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.config)
	if err != nil {
		return fmt.Errorf("forward a port: %w", err)
	}
	ready := make(chan struct{})
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("%d:%d", port, apiPort)}, ctx.Done(), ready, io.Discard, out)
	if err != nil {
		return fmt.Errorf("forward a port: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case err := <-ended:
		return fmt.Errorf("forward a port to pod %s: %w", pod.Name, err)
	case <-ready:
	}
	ports, err := forwarder.GetPorts()
	if err != nil || len(ports) == 0 {
		return errors.Join(errors.New("find the forwarded port"), err)
	}
	opened(fmt.Sprintf("http://127.0.0.1:%d", ports[0].Local))
	if err := <-ended; err != nil && ctx.Err() == nil {
		return fmt.Errorf("the connection to pod %s was lost, open it again: %w", pod.Name, err)
	}
	return nil
}

// browse shows a page, if there is a browser.
func browse(ctx context.Context, url string) {
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	// The address was printed: no browser is no error.
	_ = exec.CommandContext(ctx, name, args...).Start() //nolint:gosec // a fixed program and an address of ours
}
