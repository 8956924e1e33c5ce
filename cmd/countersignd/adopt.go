package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/server"
)

func (t *tool) adopt() *cobra.Command {
	var issuer, username string
	var yes bool
	c := &cobra.Command{
		Use: "adopt --issuer URL", Short: "Make a real deployment of a stopped sandbox's database", Args: cobra.NoArgs,
		Long: "Make a real deployment of a development database: every key is replaced, everything issued ends, and all people, groups, clients and resources are removed. What stays is the audit log, which says so, and that the database was born in development. The configuration is the sandbox's, or that of the deployment to be with its database and key file.",
		RunE: func(c *cobra.Command, _ []string) error {
			if issuer == "" {
				return usageError{errors.New("say the issuer: --issuer https://…")}
			}
			cfg, err := t.config()
			if err != nil {
				return err
			}
			if _, err := account.CheckUsername(username); err != nil {
				return usageError{err}
			}
			st, err := server.OpenForAdoption(c.Context(), cfg, server.Options{Log: t.logger(cfg)}, issuer)
			if err != nil {
				return err
			}
			defer st.Close()
			n, err := st.Samples(c.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(t.err, "Issuer now:     %s (development)\nIssuer to be:   %s\nWill go:        %d people, %d clients, %d resources, all groups, sessions and grants\nKeys:           all are replaced\n",
				st.Config.Issuer, issuer, n.People, n.Clients, n.Resources)
			if err := t.agree(yes, issuer); err != nil {
				return err
			}
			link, err := st.Adopt(c.Context(), issuer, username)
			if err != nil {
				return err
			}
			fmt.Fprintf(t.err, "\nThis is now the real deployment %s. The audit log says how it became one.\n", issuer)
			fmt.Fprintf(t.err, "\nNext: configure the server with issuer %s, without development, with this database and its key file %s, and start it.\n", issuer, st.Config.Keys.KEKFile)
			if link == "" {
				fmt.Fprintln(t.err, "It offers a setup link when it starts.")
				return nil
			}
			fmt.Fprintf(t.err, "Set-up stays closed. This link makes whoever opens it an administrator, once, within %d hours:\n", int(account.InvitationLifetime.Hours()))
			_, err = fmt.Fprintln(t.out, link)
			return err
		},
	}
	c.Flags().StringVar(&issuer, "issuer", "", "issuer of the real deployment, e.g. https://id.example.com")
	c.Flags().StringVar(&username, "username", "recovered-admin", "user name of the first administrator")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
