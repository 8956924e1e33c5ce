package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	countersign "github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/examples/notes"
	"github.com/countersign-dev/countersign/examples/records"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/web"
	"github.com/countersign-dev/countersign/pep"
)

// sandboxOptions are the flags of the sandbox.
type sandboxOptions struct {
	dir       string
	port      int
	apiPort   int
	postgres  string
	stateFile string

	acceptTime bool
	devices    bool
	authzen    bool
}

func (t *tool) sandbox() *cobra.Command {
	var o sandboxOptions
	c := &cobra.Command{
		Use: "sandbox", Short: "Start a server and a sample API on this machine, to try things out", Args: cobra.NoArgs,
		Long: "Start the server on an embedded database and a sample API, on loopback only. Nothing else is needed. What you do is kept until you remove the folder.",
		RunE: func(c *cobra.Command, _ []string) error { return t.runSandbox(c.Context(), o) },
	}
	home := stateDir()
	c.Flags().StringVar(&o.dir, "dir", filepath.Join(home, "sandbox"), "folder for the database and keys")
	c.Flags().IntVar(&o.port, "port", 8787, "port of the server; 0: any")
	c.Flags().IntVar(&o.apiPort, "api-port", 8788, "port of the sample API; 0: any")
	c.Flags().StringVar(&o.postgres, "postgres", "", "PostgreSQL connection string, instead of the embedded database")
	c.Flags().BoolVar(&o.acceptTime, "accept-time", false, "believe the clock, although it is behind what was done already or ahead of the database's")
	c.Flags().BoolVar(&o.devices, "devices", false, "let devices be signed in by code: countersign login --device")
	c.Flags().BoolVar(&o.authzen, "authzen", false, "load what AuthZEN's certification of a decision point asks about: alice, bob and their records")
	c.Flags().StringVar(&o.stateFile, "state-file", filepath.Join(home, "sandbox.json"), "file that tells countersign where the sandbox is")
	return c
}

// stateDir is where the sandbox keeps its things (XDG base directories).
func stateDir() string {
	if d := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "countersign")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "state", "countersign")
}

// loopback listens on a port of the loopback address.
func loopback(port int, flag string) (net.Listener, int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, 0, fmt.Errorf("port %d is taken; is a sandbox running already? Choose another with --%s: %w", port, flag, err)
	}
	return l, l.Addr().(*net.TCPAddr).Port, nil
}

func (t *tool) runSandbox(ctx context.Context, o sandboxOptions) (err error) {
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	pub, port, err := loopback(o.port, "port")
	if err != nil {
		return err
	}
	api, apiPort, err := loopback(o.apiPort, "api-port")
	if err != nil {
		return errors.Join(err, pub.Close())
	}
	cfg := sandboxConfig(o, port)
	log := t.sandboxLogger(o.dir)
	st, err := server.OpenState(ctx, cfg, server.Options{Log: log, Migrate: true, AcceptTime: o.acceptTime})
	if err != nil {
		return errors.Join(err, pub.Close(), api.Close())
	}
	defer st.Close()
	apiURL := "http://localhost:" + strconv.Itoa(apiPort)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	sample := server.Sample{URI: apiURL, Key: key.Public(), Schema: notes.Schema(apiURL), Policies: notes.Policies}
	if o.authzen {
		sample.Schema, sample.Policies = sample.Schema+records.Schema, sample.Policies+records.Policies
	}
	if err := st.SeedSandbox(ctx, sample); err != nil {
		return err
	}
	var harness secret.Value
	if o.authzen {
		if harness, err = st.SeedFixture(ctx, server.Fixture{Audience: records.Audience, Client: records.Client, People: records.People}); err != nil {
			return err
		}
	}
	srv, err := server.New(st)
	if err != nil {
		return err
	}
	file := filepath.Join(o.dir, "countersignd.yaml")
	if err := errors.Join(writeConfig(file, cfg), tellWhere(o.stateFile, cfg.Issuer, apiURL, file)); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(ctx, server.Listeners{Public: pub}) })
	g.Go(func() error { return serveNotes(ctx, api, cfg.Issuer, apiURL, key, log) })
	g.Go(func() error {
		t.greet(cfg.Issuer, apiURL, port, apiPort)
		if o.authzen {
			if err := t.tellHarness(cfg.Issuer, harness, filepath.Join(o.dir, "authzen-secret")); err != nil {
				return err
			}
		}
		if err := t.offerSetup(ctx, st); err != nil {
			return err
		}
		fmt.Fprintf(t.err, "\nThen, in a second terminal:\n\n  countersign login\n  countersign call GET %s/notes\n  countersign call POST %s/keys/rotate\n  countersign call DELETE %s/notes/1\n\nStop with Ctrl-C.\n", apiURL, apiURL, apiURL)
		return nil
	})
	return g.Wait()
}

// tellHarness says how to ask about the records: the secret to a terminal, else to a file
// of mode 0600, as with the setup link.
func (t *tool) tellHarness(issuer string, v secret.Value, path string) error {
	shown := v.Reveal()
	if !t.seen() {
		if err := os.WriteFile(path, []byte(shown+"\n"), 0o600); err != nil {
			return err
		}
		shown = "in " + path
	}
	fmt.Fprintf(t.err, "\nAuthZEN is answered below %s/access/v1, about alice, bob and their records. Ask as\n\n  client_id      %s\n  client_secret  %s\n", issuer, records.Client, shown)
	return nil
}

func sandboxConfig(o sandboxOptions, port int) *config.Config {
	c := &config.Config{
		Issuer: "http://localhost:" + strconv.Itoa(port), RPID: "localhost", DataDir: o.dir, Development: true,
		Keys: config.Keys{KEKFile: filepath.Join(o.dir, "kek.json")}, Log: config.Log{Format: "text", Level: "info"},
	}
	c.Listen.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	c.Database.MaxConnections = 16
	c.DeviceAuthorization.Enabled = o.devices
	if o.postgres != "" {
		c.Database.Postgres = o.postgres
	} else {
		c.Database.SQLite = filepath.Join(o.dir, "countersign.db")
	}
	return c
}

// sandboxLogger keeps the terminal free: the log goes to a file in the folder.
func (t *tool) sandboxLogger(dir string) *slog.Logger {
	if err := os.MkdirAll(dir, 0o700); err == nil {
		if f, err := os.OpenFile(filepath.Join(dir, "log.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			return slog.New(slog.NewTextHandler(f, nil))
		}
	}
	return slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// greet says where everything is, and how to reach it from elsewhere.
func (t *tool) greet(issuer, apiURL string, port, apiPort int) {
	fmt.Fprintf(t.err, "Countersign sandbox\n\n  server      %s\n  sample API  %s\n", issuer, apiURL)
	if os.Getenv("SSH_CONNECTION") != "" || exists("/.dockerenv") || exists("/run/.containerenv") {
		host, _ := os.Hostname()
		who := os.Getenv("USER")
		if who != "" {
			who += "@"
		}
		fmt.Fprintf(t.err, "\nThis machine is a remote one. On your own, run this first, then open the address there:\n\n  ssh -L %d:localhost:%d -L %d:localhost:%d %s%s\n", port, port, apiPort, apiPort, who, host)
	}
}

// writeConfig writes the configuration that the sandbox runs with, so that the
// other commands work on it too.
func writeConfig(path string, c *config.Config) error {
	b, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("configuration of the sandbox: %w", err)
	}
	return os.WriteFile(path, append([]byte("# Written by countersignd sandbox at each start, for commands such as\n# countersignd --config THIS-FILE audit list\n"), b...), 0o600)
}

// sandboxFile is what the state file says of the sandbox.
type sandboxFile struct {
	Issuer string `json:"issuer"`
	API    string `json:"api"`
	Config string `json:"config"` // path of the configuration it runs with
}

// sandboxInstead finds the configuration of the sandbox for a command to which
// none was named, on a machine that has no other.
func (t *tool) sandboxInstead() (path string, ok bool) {
	if t.configPath != defaultConfig || exists(defaultConfig) {
		return "", false
	}
	b, err := os.ReadFile(filepath.Join(stateDir(), "sandbox.json"))
	var f sandboxFile
	if err != nil || json.Unmarshal(b, &f) != nil || f.Config == "" || !exists(f.Config) {
		return "", false
	}
	return f.Config, true
}

// tellWhere writes the file by which `countersign login`, and the other commands
// of countersignd, find the sandbox.
func tellWhere(path, issuer, api, config string) error {
	config, err := filepath.Abs(config)
	if err != nil {
		return err
	}
	b, err := json.Marshal(sandboxFile{issuer, api, config})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

// serveNotes serves the sample API as its own user of the SDK: it knows the
// issuer's address and its own key, and nothing else of the server.
func serveNotes(ctx context.Context, l net.Listener, issuer, audience string, key *ecdsa.PrivateKey, log *slog.Logger) error {
	var v *countersign.Verifier
	var err error
	for range 50 { // the issuer starts beside it
		if v, err = countersign.New(ctx, countersign.Config{
			Issuer: issuer, Audience: audience, Client: countersign.ClientAuth{ID: server.SampleAPIClient, Key: key}, Policies: pep.Engine(), Log: log,
		}); err == nil || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("sample API: %w", err)
	}
	defer v.Close()
	h := notes.New().Handler(v)
	guard := web.NewDevelopment(l.Addr().(*net.TCPAddr).Port) // as every listener of development mode has (mechanisms I23)
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := guard.Check(r); err != nil {
			http.Error(w, problem.From(err).Detail, http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
