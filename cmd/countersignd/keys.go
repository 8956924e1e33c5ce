package main

import (
	"errors"
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
		t.rotate(), t.replaceKeys(),
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

func (t *tool) replaceKeys() *cobra.Command {
	var now, signOut bool
	c := &cobra.Command{
		Use: "replace", Short: "Withdraw every key at once and make new ones: for when they may have been stolen", Args: cobra.NoArgs,
		Long: "Withdraw every key but the log's at once, and make new ones, while the server serves. Access tokens of the old keys are refused from then on by the server, and by every enforcement point when it hears the feed; clients get new ones with their refresh tokens. With --sign-out those are worth nothing either, and everything that was issued ends.",
		RunE: func(c *cobra.Command, _ []string) error {
			if !now {
				return usageError{errors.New("it cannot be taken back; say so: countersignd keys replace --now")}
			}
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			n, err := st.ReplaceKeys(c.Context(), signOut)
			if err != nil {
				return err
			}
			fmt.Fprintf(t.out, "%d keys are withdrawn, and new ones in use. Running servers go by them within a second.\n", n)
			return nil
		},
	}
	c.Flags().BoolVar(&now, "now", false, "do it")
	c.Flags().BoolVar(&signOut, "sign-out", false, "end everything that was issued, too")
	return c
}
