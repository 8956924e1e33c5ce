package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/clilogin"
)

func (a *app) login() *cobra.Command {
	var (
		scope, resources, acr []string
		noBrowser, device     bool
		maxAge, timeout       time.Duration
	)
	c := &cobra.Command{
		Use:   "login [issuer]",
		Short: "Sign in with your browser",
		Long: `Sign in at a Countersign server with your browser. Without an issuer it is the
one you signed in at before, or the sandbox on this computer.

The credential is kept in a file that only you can read; the command says where.
Set $COUNTERSIGN_BROWSER (or $BROWSER) to the command that opens an address, or
to "print" to have it printed only.

With --device you type a code into a browser on any machine: for a server behind
ssh, where --no-browser would need a tunnel. Administrators have to allow it.`,
		Example: "  countersign login https://id.example.com\n  countersign login --no-browser --profile work",
		Args:    cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringSliceVar(&scope, "scope", nil, "permissions to ask for, in place of the server's default")
	f.StringSliceVar(&acr, "acr", nil, "levels of proof that will do, e.g. phr")
	f.DurationVar(&maxAge, "max-age", 0, "how old the proof may be, e.g. 5m")
	f.StringSliceVar(&resources, "resource", nil, "resources to ask tokens for, in place of the server's default")
	f.BoolVar(&noBrowser, "no-browser", false, "print the address, open nothing")
	f.BoolVar(&device, "device", false, "sign in with a code, in a browser on any machine")
	f.DurationVar(&timeout, "timeout", clilogin.PromptTimeout, "how long to wait for you")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		p, err := a.open()
		if err != nil {
			return err
		}
		named := ""
		if len(args) > 0 {
			named = args[0]
		}
		l := clilogin.Login{Scope: words(scope), Resources: words(resources), ACR: words(acr), Prompter: a.prompter(noBrowser || device), Timeout: timeout, Device: device}
		if c.Flags().Changed("max-age") {
			if maxAge < 0 {
				return usage("--max-age is not negative.")
			}
			l.MaxAge = &maxAge
		}
		if timeout <= 0 {
			return usage("--timeout is longer than nothing.")
		}
		if l.Prompter == nil {
			return &failure{
				exit: exitLogin, code: clilogin.CodeLoginNeeded, fix: loginCommand(a.profile, named) + "   (in a terminal)",
				message: "Signing in needs a person: there is no terminal, or input was ruled out.",
			}
		}
		if l.Issuer, err = p.FindIssuer(ctx, named); err != nil {
			return err
		}
		in, err := p.Login(ctx, l)
		if err != nil {
			return err
		}
		if err := identify(ctx, p); err == nil {
			if in.Credential, err = p.Credential(); err != nil {
				return err
			}
		}
		return a.signedIn(p, in)
	})
	return c
}

// identify learns the person's name; the sign-in stands without it.
func identify(ctx context.Context, p *clilogin.Profile) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return p.Identify(ctx)
}

// words splits values on spaces too: a scope is often given as one string.
func words(list []string) (out []string) {
	for _, s := range list {
		out = append(out, strings.Fields(s)...)
	}
	return out
}

func loginCommand(profile, issuer string) string {
	cmd := "countersign login"
	if issuer != "" {
		cmd += " " + issuer
	}
	if profile != clilogin.DefaultProfile {
		cmd += " --profile " + profile
	}
	return cmd
}

// signedIn says who is signed in, and where the credential is.
func (a *app) signedIn(p *clilogin.Profile, in clilogin.SignedIn) error {
	c := in.Credential
	path := p.Store.Path(p.Name)
	if in.OldKept != nil {
		a.say("The sign-in that this one replaces could not be ended at the server; end it on your account's page.")
	}
	if a.json {
		return a.document("login/v1", map[string]any{
			"profile": p.Name, "issuer": c.Issuer, "subject": c.Subject, "name": c.Name, "username": c.Username,
			"acr": c.ACR, "scope": list(c.Scope), "storage": storage(path), "joined": in.Joined,
		})
	}
	a.say("You're signed in to %s as %s.", clean(c.Issuer), clean(who(c)))
	a.say("Credential: %s (a file that only you can read; no system keyring is used)", path)
	return nil
}

func storage(path string) map[string]any {
	return map[string]any{"kind": "file", "path": path, "protection": "mode 0600"}
}

// list is never null in JSON.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// who names the person of a credential.
func who(c *clilogin.Credential) string {
	switch {
	case c.Name != "" && c.Username != "":
		return c.Name + " (" + c.Username + ")"
	case c.Name != "" || c.Username != "":
		return c.Name + c.Username
	case c.Subject != "":
		return c.Subject
	}
	return "somebody the server does not name"
}

func (a *app) logout() *cobra.Command {
	var revoke, all bool
	c := &cobra.Command{
		Use:   "logout",
		Short: "Remove the credential from this computer",
		Long: `Remove the credential from this computer. With --revoke the server ends the
grant first, and everything that came from it; when the server cannot be
reached, nothing is removed.`,
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVar(&revoke, "revoke", false, "end the grant at the server too")
	c.Flags().BoolVar(&all, "all", false, "every profile")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		p, err := a.open()
		if err != nil {
			return err
		}
		names := []string{a.profile}
		if all {
			if names, err = p.Store.Profiles(); err != nil {
				return err
			}
		}
		done := []map[string]any{}
		var faults []error
		for _, name := range names {
			one := *p
			one.Name = name
			e, err := one.Logout(ctx, revoke)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			done = append(done, map[string]any{"profile": name, "issuer": e.Issuer, "revoked": e.Revoked})
			if a.json {
				continue
			}
			a.say("%s: signed out on this computer%s.", name, map[bool]string{true: fmt.Sprintf(", and ended at %s", clean(e.Issuer))}[e.Revoked])
			if !revoke && e.Issuer != "" {
				a.say("The server keeps the grant until it ends; your account's page ends it now.")
			}
		}
		if a.json {
			if err := a.document("logout/v1", map[string]any{"profiles": done}); err != nil {
				return err
			}
		}
		return errors.Join(faults...)
	})
	return c
}
