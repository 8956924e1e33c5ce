// Command countersignd is the server: it serves, and it is how the operator on
// the host works on a deployment.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// defaultConfig is the configuration of a deployment that names none.
const defaultConfig = "/etc/countersign/countersignd.yaml"

// usageError is an error of the command line itself: exit code 2.
type usageError struct{ error }

// run is main with its surroundings given. Exit codes: 0 done, 1 failed, 2 usage,
// 3 a check found something wrong.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := command(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var found *findings
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &found):
		return 3
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "error: %v\nhint: countersignd --help\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "error: %v\n", err)
	return 1
}

// tool is what the subcommands share.
type tool struct {
	out, err   io.Writer
	configPath string
}

func command(stdout, stderr io.Writer) *cobra.Command {
	t := &tool{out: stdout, err: stderr}
	root := &cobra.Command{
		Use: "countersignd", Short: "The Countersign authorization server", SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVar(&t.configPath, "config", envOr("COUNTERSIGN_CONFIG", defaultConfig), "configuration file")
	root.AddCommand(
		t.serve(), t.sandbox(), t.migrate(), t.checkConfig(), t.setupLink(), t.audit(), t.keys(), t.recover(), t.renameIssuer(), t.adopt(), t.status(), t.quarantine(), t.backup(), t.restore(),
		t.witness(), version(stdout),
	)
	return strict(root)
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

func version(out io.Writer) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Say which version this is", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		v := "unknown"
		if i, ok := debug.ReadBuildInfo(); ok {
			v = i.Main.Version
		}
		_, err := fmt.Fprintln(out, "countersignd", v)
		return err
	}}
}

func (t *tool) config() (*config.Config, error) {
	c, err := config.Read(t.configPath, os.Environ())
	if _, missing := os.Stat(t.configPath); errors.Is(missing, fs.ErrNotExist) {
		err = fmt.Errorf("%w\nhint: name the file with --config, or try things out with countersignd sandbox", err)
	}
	return c, err
}

// state opens the deployment that the configuration names; the sandbox's, if
// nobody named one and this machine has no other.
func (t *tool) state(ctx context.Context) (*server.State, error) {
	if path, ok := t.sandboxInstead(); ok {
		t.configPath = path
		fmt.Fprintf(t.err, "countersignd: there is no %s; using the sandbox's %s\n", defaultConfig, path)
	}
	return t.open(ctx, false)
}

// open opens exactly what the configuration names.
func (t *tool) open(ctx context.Context, migrate bool) (*server.State, error) {
	return t.openWith(ctx, server.Options{Migrate: migrate})
}

func (t *tool) openWith(ctx context.Context, o server.Options) (*server.State, error) {
	cfg, err := t.config()
	if err != nil {
		return nil, err
	}
	o.Log = t.logger(cfg)
	return server.OpenState(ctx, cfg, o)
}

// logger logs to standard error as the configuration says.
func (t *tool) logger(cfg *config.Config) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[cfg.Log.Level]
	o := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "text" {
		return slog.New(slog.NewTextHandler(t.err, o))
	}
	return slog.New(slog.NewJSONHandler(t.err, o))
}

func (t *tool) serve() *cobra.Command {
	var noMigrate, acceptTime bool
	c := &cobra.Command{
		Use: "serve", Short: "Serve", Args: cobra.NoArgs,
		Long: "Serve the issuer of the configuration. A database of an earlier release is brought up to date first, after a copy of it was made.",
		RunE: func(c *cobra.Command, _ []string) error {
			collectLess()
			threadMore()
			o := server.Options{Migrate: !noMigrate, AcceptTime: acceptTime}
			err := server.ErrEpoch
			for errors.Is(err, server.ErrEpoch) && c.Context().Err() == nil {
				err = t.serveEpoch(c.Context(), o)
				o.AcceptTime = false // for the clock as it was when the command was given
				var gone *server.Gone
				switch {
				case errors.As(err, &gone):
					o.Gone = gone.Why
				case o.Gone != "" && errors.Is(err, problem.Unavailable): // nobody else knows
					time.Sleep(time.Second)
					err = server.ErrEpoch
				default:
					o.Gone = ""
				}
			}
			return err
		},
	}
	c.Flags().BoolVar(&noMigrate, "no-migrate", false, "refuse a database of an earlier release instead of migrating it")
	c.Flags().BoolVar(&acceptTime, "accept-time", false, "believe the clock, although it is behind what was done already or ahead of the database's")
	return c
}

// serveEpoch serves until the end, or until the deployment begins another epoch.
func (t *tool) serveEpoch(ctx context.Context, o server.Options) error {
	st, err := t.openWith(ctx, o)
	if err != nil {
		return err
	}
	defer st.Close()
	srv, err := server.New(st)
	if err != nil {
		return err
	}
	l, err := server.Listen(st.Config)
	if err != nil {
		return err
	}
	if err := t.offerSetup(ctx, st); err != nil {
		return err
	}
	fmt.Fprintf(t.err, "countersignd: serving %s on %s\n", st.Config.Issuer, l.Public.Addr())
	go giveBack()
	return srv.Run(ctx, l)
}

// giveBack returns the memory that only starting took, half of the heap, which a
// server with little to do would keep for hours. Pools are emptied by the second
// collection.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}

// collectLess lets the heap grow to three times what lives before the collector
// runs: what lives is small (tens of megabytes), and each request leaves little
// behind, so that the processor is worth more than the memory. GOGC overrides it.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// threadMore lets at least four threads run Go code, also where there is one
// processor or the share of one. With a single one the runtime looks for new
// requests only when it has nothing else to do, which under load is never: they
// stand unseen in the kernel's queue instead of being let in or refused, and each
// sync of the disk holds everybody up. GOMAXPROCS overrides it.
func threadMore() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	}
}

func (t *tool) migrate() *cobra.Command {
	return &cobra.Command{Use: "migrate", Short: "Bring the database up to date, and stop", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		st, err := t.open(c.Context(), true)
		if err != nil {
			return err
		}
		fmt.Fprintln(t.err, "The database is up to date.")
		return st.Close()
	}}
}

func (t *tool) checkConfig() *cobra.Command {
	return &cobra.Command{Use: "check-config", Short: "Read the configuration and say every fault", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		c, err := t.config()
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%s is valid: issuer %s, relying party %s\n", t.configPath, c.Issuer, c.RPID)
		return nil
	}}
}
