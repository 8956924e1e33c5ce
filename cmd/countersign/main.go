// Command countersign is Countersign for people, scripts and agents: it signs
// in, calls APIs with proof, and manages people, sessions, clients and
// resources over the server's JSON API. It keeps nothing that clilogin does not
// keep, and knows nothing of the server but what goes over the wire.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second one ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
