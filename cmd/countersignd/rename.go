package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/server"
)

// agree asks on the terminal for a word before something that cannot be undone;
// where there is no terminal the flag has to say it.
func (t *tool) agree(yes bool, word string) error {
	if yes {
		return nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return usageError{errors.New("nothing was changed: this needs your word; read what it says, then give --yes")}
	}
	fmt.Fprintf(t.err, "\nThis cannot be undone. To go on, type %s: ", word)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != word {
		return errors.New("nothing was changed")
	}
	return nil
}

func (t *tool) renameIssuer() *cobra.Command {
	var to, rpID string
	var yes bool
	c := &cobra.Command{
		Use: "rename-issuer --to URL", Short: "Move a stopped deployment to another issuer", Args: cobra.NoArgs,
		Long: "Give a stopped deployment another issuer. First it says whose passkeys stop working: those made for another relying party than the new one. Then, in one step that the audit log records, it changes the issuer, ends every session and grant, and makes a single-use link for each administrator who is left without a passkey. The configuration may still name the old issuer, or the new one.",
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{errors.New("say the new issuer: --to https://…")}
			}
			cfg, err := t.config()
			if err != nil {
				return err
			}
			st, err := server.OpenForRename(c.Context(), cfg, server.Options{Log: t.logger(cfg)}, to)
			if err != nil {
				return err
			}
			defer st.Close()
			return t.rename(c.Context(), st, to, rpID, yes)
		},
	}
	c.Flags().StringVar(&to, "to", "", "new issuer, e.g. https://id.example.com")
	c.Flags().StringVar(&rpID, "rp-id", "", "relying party of passkeys: the new issuer's host or a parent domain (default: as configured if it fits, else the host)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (t *tool) rename(ctx context.Context, st *server.State, to, rpID string, yes bool) error {
	p, err := st.PlanRename(ctx, to, rpID)
	if err != nil {
		return err
	}
	t.sayPlan(p)
	if err := t.agree(yes, p.To); err != nil {
		return err
	}
	links, err := st.Rename(ctx, p)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.err, "\nThe issuer is %s. Every session and grant of before has ended.\n", p.To)
	if len(links) > 0 {
		fmt.Fprintf(t.err, "Each of these links makes a passkey for one administrator. It works once, for %d hours, when the server runs again:\n", int(account.InvitationLifetime.Hours()))
		w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
		for _, l := range links {
			fmt.Fprintf(w, "%s\t%s\n", l.Username, l.URL)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(t.err, "\nNext:\n  1. In %s set:\n\n       issuer: %s\n", t.configPath, p.To)
	if u, err := url.Parse(p.To); err == nil && u.Hostname() != p.RPID {
		fmt.Fprintf(t.err, "       rp_id: %s\n", p.RPID)
	} else {
		fmt.Fprintln(t.err, "\n     and take rp_id out, if it is there.")
	}
	fmt.Fprintln(t.err, "  2. Start the server.\n  3. Give enforcement points and clients the new issuer; people sign in again.")
	return nil
}

func (t *tool) sayPlan(p server.RenamePlan) {
	fmt.Fprintf(t.err, "Issuer now:     %s\nIssuer to be:   %s\nPasskeys for:   %s\nWill end:       %d sessions, %d grants\n\n", p.From, p.To, p.RPID, p.Sessions, p.Grants)
	if len(p.Affected) == 0 {
		fmt.Fprintln(t.err, "All passkeys go on working.")
		return
	}
	fmt.Fprintf(t.err, "Without a passkey for %s, %d:\n", p.RPID, len(p.Affected))
	for _, a := range p.Affected {
		how := "has to be invited again"
		if a.Admin {
			how = "administrator: gets a link"
		}
		fmt.Fprintf(t.err, "  %s (%s), %d passkeys: %s\n", a.Username, a.Name, a.Passkeys, how)
	}
}
