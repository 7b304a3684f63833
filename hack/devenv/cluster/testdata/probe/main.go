// Command probe looks at a cluster from inside a pod: `serve`, `resolve NAME` and `get URL`.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command string, args []string) error {
	switch command {
	case "serve":
		fmt.Println("serving")
		http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "from the pod") })
		return (&http.Server{Addr: ":8080", ReadHeaderTimeout: time.Second}).ListenAndServe()
	case "resolve":
		addrs, err := net.DefaultResolver.LookupHost(context.Background(), args[0])
		fmt.Println(addrs)
		return err
	case "get":
		client := http.Client{Timeout: 5 * time.Second}
		resp, err := client.Get(args[0])
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
		return err
	}
	return fmt.Errorf("unknown command %q", command)
}
