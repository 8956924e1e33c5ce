package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/quorum"
	"github.com/countersign-dev/countersign/internal/witness"
)

// witnessOptions are the flags of the commands of a witness.
type witnessOptions struct {
	dir, name, listen string
	cert, key         string
	logs              []string
}

func (t *tool) witness() *cobra.Command {
	var o witnessOptions
	c := &cobra.Command{
		Use: "witness", Short: "Be a witness of other deployments' logs",
		Long: "A witness (C2SP tlog-witness) cosigns a log's checkpoint if it extends the last one that it cosigned, and keeps it first. Two deployments can serve each other. It needs no configuration file and no database: a folder, a name and the keys of the logs.",
	}
	serve := &cobra.Command{
		Use: "serve", Short: "Serve as a witness", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return t.serveWitness(c.Context(), o) },
	}
	serve.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8444", "host:port")
	serve.Flags().StringArrayVar(&o.logs, "log", nil, "verifier key of a log, as its audit status shows it; may be given again")
	serve.Flags().StringVar(&o.cert, "tls-cert", "", "certificate file")
	serve.Flags().StringVar(&o.key, "tls-key", "", "key file of the certificate")
	key := &cobra.Command{
		Use: "key", Short: "Show the witness's verifier key, for policies", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			k, _, err := o.open()
			if err == nil {
				fmt.Fprintln(t.out, k)
			}
			return err
		},
	}
	for _, sub := range []*cobra.Command{serve, key} {
		sub.Flags().StringVar(&o.dir, "data", "/var/lib/countersign-witness", "folder of its key and of what it has cosigned")
		sub.Flags().StringVar(&o.name, "name", "", "name of the witness, a URL without scheme, e.g. witness.example.com/w1; it is part of the key")
		c.AddCommand(sub)
	}
	return c
}

// open reads the witness's key, and makes it the first time.
func (o witnessOptions) open() (quorum.Key, ed25519.PrivateKey, error) {
	if o.name == "" {
		return quorum.Key{}, nil, usageError{errors.New("say what the witness is called: --name witness.example.com/w1")}
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return quorum.Key{}, nil, err
	}
	path := filepath.Join(o.dir, "key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		text = []byte(base64.StdEncoding.EncodeToString(seed) + "\n")
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_, err = f.Write(text)
			err = errors.Join(err, f.Sync(), f.Close())
		}
	}
	if err != nil {
		return quorum.Key{}, nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(text), "\n"))
	if err != nil || len(seed) != ed25519.SeedSize {
		return quorum.Key{}, nil, fmt.Errorf("%s is not a witness's key", path)
	}
	private := ed25519.NewKeyFromSeed(seed)
	k, err := quorum.NewKey(o.name, private.Public().(ed25519.PublicKey))
	return k, private, err
}

func (t *tool) serveWitness(ctx context.Context, o witnessOptions) error {
	if len(o.logs) == 0 {
		return usageError{errors.New("say whose logs: --log <verifier key>")}
	}
	if (o.cert == "") != (o.key == "") {
		return usageError{errors.New("--tls-cert and --tls-key go together")}
	}
	k, private, err := o.open()
	if err != nil {
		return err
	}
	w, err := witness.NewServer(witness.Config{Key: k, Private: private, Logs: o.logs, Dir: o.dir, Log: slog.New(slog.NewJSONHandler(t.err, nil))})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.err, "countersignd: witness %s on %s\nkey: %s\n", o.name, l.Addr(), k)
	srv := &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() {
		if o.cert != "" {
			ended <- srv.ServeTLS(l, o.cert, o.key)
		} else {
			ended <- srv.Serve(l)
		}
	}()
	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return srv.Shutdown(grace)
}
