package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/policy"
)

func (t *tool) keys() *cobra.Command {
	c := &cobra.Command{Use: "keys", Short: "List, make and rotate keys"}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "List the keys", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PURPOSE\tALG\tKEY\tSIGNS FROM\tVERIFIES UNTIL")
			for _, k := range st.Ring.List() {
				alg, until := k.Alg, "in use"
				if alg == "" {
					alg = "-"
				}
				if !k.RetireAt.IsZero() {
					until = k.RetireAt.Format(time.RFC3339)
				}
				if !k.WithdrawnAt.IsZero() {
					until = "withdrawn " + k.WithdrawnAt.Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.Purpose, alg, k.ID, k.ActivateAt.Format(time.RFC3339), until)
			}
			return w.Flush()
		}},
		&cobra.Command{Use: "init", Short: "Make the key-encryption key that the configuration names", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
			cfg, err := t.config()
			if err != nil {
				return err
			}
			if err := hsm.CreateFile(cfg.Keys.KEKFile); err != nil {
				return fmt.Errorf("key-encryption key: %w", err)
			}
			fmt.Fprintf(t.err, "Made %s. Keep a copy apart from the database: without it nothing sealed can be read.\n", cfg.Keys.KEKFile)
			return nil
		}},
		t.rotate(),
	)
	return c
}

func (t *tool) rotate() *cobra.Command {
	var purpose, alg string
	c := &cobra.Command{
		Use: "rotate", Short: "Publish a successor for a signing key", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			k, err := st.RotateKey(c.Context(), keyring.Purpose(purpose), alg, act.Refs{Kind: policy.KindOperator})
			if err != nil {
				return err
			}
			fmt.Fprintf(t.out, "%s is published now and signs from %s; the old key verifies until %s after that.\n", k.ID, k.ActivateAt.Format(time.RFC3339), keyring.VerifyAfter)
			return nil
		},
	}
	c.Flags().StringVar(&purpose, "purpose", string(keyring.Token), "token, id_token or feed")
	c.Flags().StringVar(&alg, "alg", "ES256", "algorithm")
	return c
}
