package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/clilogin"
)

// clientID is the public client that every server knows.
const clientID = "countersign-cli"

// app is one run of the command.
type app struct {
	console
	profile string
	debug   bool
	started bool // the command line was understood
}

// run runs a command line and gives its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	a := &app{console: console{in: in, out: out, err: errs}}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	said, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	f := failureOf(err)
	if !a.started {
		a.settle()
		if f.exit == exitError {
			f.exit, f.code = exitUsage, "usage"
			f.fix = said.CommandPath() + " --help"
			if strings.Contains(err.Error(), "arg(s)") { // cobra's way to say that it is another command line
				f.message = "This command is: " + said.UseLine()
			}
		}
	}
	a.fail(f)
	return f.exit
}

// root builds the command tree.
func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "countersign",
		Short: "Sign in, call APIs with proof, manage people and applications",
		Long: `countersign signs you in at a Countersign server and calls APIs as you. When an
API asks for more proof, your browser opens, you confirm, and the same command
finishes.

Data goes to standard output, words for you to standard error. Exit codes:
0 ok, 1 error, 2 usage, 4 login needed, 5 step-up needed, 6 denied,
7 timed out, 8 server unreachable, 9 storage unavailable, 130 interrupted.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.json {
				return usage("Name a command.")
			}
			return c.Help()
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&a.profile, "profile", defaultProfile(), "the sign-in to use ($COUNTERSIGN_PROFILE)")
	f.BoolVar(&a.json, "json", false, "answer in JSON of a versioned schema")
	f.BoolVar(&a.noInput, "no-input", false, "never ask, never open a browser")
	f.BoolVar(&a.debug, "debug", false, "say on standard error what is sent and answered, without secrets")
	_ = c.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		store, err := clilogin.OpenStore("countersign")
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, _ := store.Profiles()
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	c.AddCommand(a.login(), a.logout(), a.auth(), a.call(), a.person(), a.factor(), a.recovery(), a.review(), a.explain(), a.session(), a.apply(),
		a.clientCommand(), a.issuerCommand(), a.webhook(), a.delivery(), a.alert(), a.leak(), a.policy(), a.version())
	return c
}

func defaultProfile() string {
	if v := os.Getenv("COUNTERSIGN_PROFILE"); v != "" {
		return v
	}
	return clilogin.DefaultProfile
}

// do makes a command's function: from here on, an error is not one of usage.
func (a *app) do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		a.started = true
		a.settle()
		if err := clilogin.CheckProfile(a.profile); err != nil {
			return err
		}
		return f(c.Context(), args)
	}
}

// group is a command that only has others below it.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return usage("Name a command of %s: %s --help.", name, c.CommandPath())
	}}
	c.AddCommand(commands...)
	return c
}

// open gives the profile named on the command line.
func (a *app) open() (*clilogin.Profile, error) {
	store, err := clilogin.OpenStore("countersign")
	if err != nil {
		return nil, err
	}
	p := &clilogin.Profile{Store: store, Name: a.profile, ClientID: clientID, App: "countersign", Now: a.now}
	if a.debug {
		p.HTTP = &http.Client{Transport: &tracer{out: a.err, next: http.DefaultTransport}}
	}
	return p, nil
}

// prompter asks the person who is there, nil if nobody is.
func (a *app) prompter(noBrowser bool) clilogin.Prompter {
	if !a.asks {
		return nil
	}
	return &terminal{app: a, noBrowser: noBrowser}
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Say which release this is", Args: cobra.NoArgs, RunE: a.do(func(context.Context, []string) error {
		version, revision, goVersion := "(devel)", "", ""
		if info, ok := debug.ReadBuildInfo(); ok {
			version, goVersion = info.Main.Version, info.GoVersion
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					revision = s.Value
				}
			}
		}
		if version == "" {
			version = "(devel)"
		}
		if a.json {
			return a.document("version/v1", map[string]any{"version": version, "revision": revision, "go": goVersion})
		}
		_, err := io.WriteString(a.out, "countersign "+version+"\n")
		return err
	})}
}
