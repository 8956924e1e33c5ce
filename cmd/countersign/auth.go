package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/clilogin"
)

func (a *app) auth() *cobra.Command {
	return group("auth", "Say who is signed in; give out tokens", a.authStatus(), a.authToken())
}

func (a *app) authStatus() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say who is signed in, with what proof, until when, and where it is kept",
		Args:  cobra.NoArgs,
	}
	c.Flags().BoolVar(&check, "check", false, "ask the server whether it still stands")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		p, err := a.open()
		if err != nil {
			return err
		}
		cred, err := p.Credential()
		if err == nil && !cred.EndedAt.IsZero() {
			err = &failure{
				exit: exitLogin, code: clilogin.CodeLoginNeeded, message: "Your sign-in at " + cred.Issuer + " has ended.",
				fix: loginCommand(p.Name, ""),
			}
		}
		var me json.RawMessage
		if err == nil && check {
			me, err = a.check(ctx, p)
			if now, e := p.Credential(); e == nil {
				cred = now
			}
		}
		if a.json {
			if e := a.document("auth.status/v1", a.status(p, cred, err == nil, check, me)); e != nil {
				return e
			}
		} else if cred != nil {
			a.tell(p, cred, check && err == nil)
		}
		return err
	})
	return c
}

// check asks the server. A token that it gives, and takes, is a sign-in that
// stands, whatever this person may read.
func (a *app) check(ctx context.Context, p *clilogin.Profile) (json.RawMessage, error) {
	got, err := p.Check(ctx)
	if err != nil {
		return nil, err
	}
	defer got.Response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(got.Response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	switch status := got.Response.StatusCode; {
	case status == http.StatusUnauthorized:
		return nil, &failure{
			exit: exitLogin, code: clilogin.CodeLoginNeeded, message: "The server does not take your sign-in any more.",
			fix: loginCommand(p.Name, ""), ref: got.Response.Header.Get("Countersign-Ref"),
		}
	case status >= 500:
		return nil, &failure{
			exit: exitUnreachable, code: clilogin.CodeUnreachable, message: "The server answered " + got.Response.Status + ".",
			ref: got.Response.Header.Get("Countersign-Ref"),
		}
	case status == http.StatusOK && json.Valid(body):
		return body, nil
	}
	return nil, nil
}

func (a *app) status(p *clilogin.Profile, c *clilogin.Credential, signedIn, checked bool, me json.RawMessage) map[string]any {
	doc := map[string]any{"profile": p.Name, "signed_in": signedIn, "storage": storage(p.Store.Path(p.Name))}
	if c == nil {
		return doc
	}
	for k, v := range map[string]any{
		"issuer": c.Issuer, "client_id": c.ClientID, "subject": c.Subject, "name": c.Name, "username": c.Username,
		"acr": c.ACR, "amr": list(c.AMR), "scope": list(c.Scope), "login_at": c.LoginAt, "checked": checked,
	} {
		doc[k] = v
	}
	if !c.AuthTime.IsZero() {
		doc["auth_time"] = c.AuthTime
	}
	if c.Elevation != nil {
		doc["step_up"] = c.Elevation
	}
	if !c.EndedAt.IsZero() {
		doc["ended_at"], doc["ended_why"] = c.EndedAt, c.EndedWhy
	}
	if me != nil {
		doc["me"] = me
	}
	tokens := []map[string]any{}
	for _, t := range c.Access {
		tokens = append(tokens, map[string]any{
			"audience": t.Audience, "scope": list(t.Scope), "expires_at": t.ExpiresAt, "acr": t.ACR,
		})
	}
	doc["tokens"] = tokens
	return doc
}

// tell says the status in words; it is data too, and goes to standard output.
func (a *app) tell(p *clilogin.Profile, c *clilogin.Credential, stands bool) {
	now := a.now()
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-11s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	row("Person", "%s", who(c))
	row("Server", "%s", c.Issuer)
	row("Profile", "%s", p.Name)
	row("Credential", "%s (a file that only you can read)", p.Store.Path(p.Name))
	row("Signed in", "%s", ago(now, c.LoginAt))
	if c.ACR != "" {
		proof := c.ACR
		if len(c.AMR) > 0 {
			proof += " (" + strings.Join(c.AMR, ", ") + ")"
		}
		row("Assurance", "%s, shown %s", proof, ago(now, c.AuthTime))
	}
	if e := c.Elevation; e != nil {
		switch {
		case e.Until.IsZero():
			row("Step-up", "for %s", e.For)
		case now.Before(e.Until):
			row("Step-up", "for %s, good until %s (%s left)", e.For, clock(e.Until), span(e.Until.Sub(now)))
		default:
			row("Step-up", "for %s, over since %s: it will ask again", e.For, clock(e.Until))
		}
	}
	if len(c.Scope) > 0 {
		row("Scopes", "%s", strings.Join(c.Scope, " "))
	}
	for _, t := range c.Access {
		audience := t.Audience
		if audience == "" {
			audience = "the default audience"
		}
		if now.Before(t.ExpiresAt) {
			row("Token", "for %s until %s (%s)", audience, clock(t.ExpiresAt), span(t.ExpiresAt.Sub(now)))
		}
	}
	switch {
	case !c.EndedAt.IsZero():
		row("State", "ended; seen %s", ago(now, c.EndedAt))
	case stands:
		row("State", "the server confirms it")
	}
}

func (a *app) authToken() *cobra.Command {
	var (
		audience, format string
		scope            []string
		minTTL           time.Duration
	)
	c := &cobra.Command{
		Use:   "token",
		Short: "Print an access token",
		Long: `Print an access token, fetched or refreshed if need be. Tokens are bound to this
profile's key: "countersign call" sends the proof that goes with them.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&audience, "audience", "", "resource that the token is for; without it the server's default")
	f.StringSliceVar(&scope, "scope", nil, "fewer permissions than were granted")
	f.DurationVar(&minTTL, "min-ttl", 30*time.Second, "life that the token must have left")
	f.StringVar(&format, "format", "raw", "raw, json or header")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if a.json && !c.Flags().Changed("format") {
			format = "json"
		}
		if format != "raw" && format != "json" && format != "header" {
			return usage("--format is raw, json or header.")
		}
		if minTTL < 0 {
			return usage("--min-ttl is not negative.")
		}
		p, err := a.open()
		if err != nil {
			return err
		}
		t, err := p.Token(ctx, clilogin.TokenRequest{Audience: audience, Scope: words(scope), MinTTL: minTTL})
		if err != nil {
			return err
		}
		switch format {
		case "json":
			return a.document("auth.token/v1", map[string]any{
				"access_token": t.Value, "token_type": t.Type, "audience": t.Audience, "scope": strings.Join(t.Scope, " "),
				"expires_at": t.ExpiresAt, "expires_in": int(t.ExpiresAt.Sub(a.now()).Seconds()),
			})
		case "header":
			_, err = fmt.Fprintf(a.out, "Authorization: %s %s\n", t.Type, t.Value)
		default:
			_, err = fmt.Fprintln(a.out, t.Value)
		}
		return err
	})
	return c
}
