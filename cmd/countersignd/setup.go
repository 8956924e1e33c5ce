package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/server"
)

// offerSetup makes a setup link while nobody has set the deployment up: printed
// to a terminal, else written to a file of mode 0600 whose name is said; never
// logged (mechanisms I2).
func (t *tool) offerSetup(ctx context.Context, st *server.State) error {
	done, err := st.Store.SetUp(ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(st.Config.DataDir, "setup-link")
	if done.Done {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	link, err := st.SetupLink(ctx, policy.KindSystem)
	if err != nil {
		return err
	}
	return t.tellSetup(link, path)
}

// seen reports whether what is said goes to a terminal, and nowhere else.
func (t *tool) seen() bool {
	f, ok := t.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (t *tool) tellSetup(link, path string) error {
	if t.seen() {
		fmt.Fprintf(t.err, "\nOpen this link to set up the first administrator. It works once, for %d minutes:\n\n  %s\n\n", int(account.SetupLifetime.Minutes()), link)
		return nil
	}
	if err := os.WriteFile(path, []byte(link+"\n"), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(t.err, "countersignd: the setup link is in %s; it works once, for %d minutes\n", path, int(account.SetupLifetime.Minutes()))
	return nil
}

func (t *tool) setupLink() *cobra.Command {
	return &cobra.Command{Use: "setup-link", Short: "Make a new setup link for the first administrator", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		st, err := t.state(c.Context())
		if err != nil {
			return err
		}
		defer st.Close()
		done, err := st.Store.SetUp(c.Context())
		if err != nil {
			return err
		}
		if done.Done {
			return problem.Newf(problem.Conflict, "setup_done", "set-up was completed on %s and is closed; to get back in use: countersignd recover admin", done.At.Format("2006-01-02"))
		}
		link, err := st.SetupLink(c.Context(), policy.KindOperator)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(t.out, link)
		return err
	}}
}

func (t *tool) recover() *cobra.Command {
	c := &cobra.Command{Use: "recover", Short: "Get back in, as root on the host: loud and recorded"}
	var username string
	admin := &cobra.Command{
		Use: "admin", Short: "Print a link with which a person enrols a new passkey as administrator", Args: cobra.NoArgs,
		Long: "Print a single-use link with which a new administrator joins. What is done is recorded in the audit log and cannot be hidden.",
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			link, err := st.RecoverAdmin(c.Context(), username)
			if err != nil {
				return err
			}
			fmt.Fprintf(t.err, "RECOVERY: this link makes whoever opens it an administrator. It works once, for %d hours. The audit log says that it was made.\n", int(account.InvitationLifetime.Hours()))
			_, err = fmt.Fprintln(t.out, link)
			return err
		},
	}
	admin.Flags().StringVar(&username, "username", "recovered-admin", "user name of the new administrator")
	c.AddCommand(admin, t.recoverPolicy())
	return c
}

func (t *tool) recoverPolicy() *cobra.Command {
	var to int64
	c := &cobra.Command{
		Use: "policy", Short: "Put an earlier version of the policies back, when those in force keep their publishers out", Args: cobra.NoArgs,
		Long: "Put an earlier version of the policies back as a new version; 0 is the default set. Servers follow within a second or two. What is done is recorded in the audit log and cannot be hidden.",
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			n, err := st.RecoverPolicy(c.Context(), to)
			if err != nil {
				return err
			}
			fmt.Fprintf(t.err, "RECOVERY: version %d of the policies is in force; it is version %d again. The audit log says so.\n", n, to)
			return nil
		},
	}
	c.Flags().Int64Var(&to, "to", 0, "the version to put back; 0 is the default set")
	return c
}
