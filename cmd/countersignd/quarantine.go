package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/store"
)

func (t *tool) quarantine() *cobra.Command {
	c := &cobra.Command{
		Use: "quarantine", Short: "See and end the quarantine of a database that has gone back in time",
		Long: "A restored database would revive what was revoked, removed or used since. A server that finds that it was farther than its database is goes into quarantine: it answers health checks and these commands, and nobody else.",
	}
	c.AddCommand(t.quarantineStatus(), t.quarantineEnter())
	return c
}

func (t *tool) quarantineStatus() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Say whether the deployment is in quarantine, and why", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		st, err := t.state(c.Context())
		if err != nil {
			return err
		}
		defer st.Close()
		d, err := st.Store.Deployment(c.Context())
		if err != nil {
			return err
		}
		size, _, err := st.Store.Head(c.Context())
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "epoch:      %d\nrecords:    %d\n", d.Epoch, size)
		if d.Quarantined.IsZero() {
			fmt.Fprintln(t.out, "quarantine: no")
			return nil
		}
		seen, err := st.Store.Seen(c.Context())
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "quarantine: since %s: %s\nseen:       %d records in epoch %d\n", d.Quarantined.Format(time.RFC3339), d.Why, seen.HW, seen.Epoch)
		return nil
	}}
}

func (t *tool) quarantineEnter() *cobra.Command {
	var why string
	c := &cobra.Command{
		Use: "enter", Short: "Stop issuing anything, by hand", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if strings.TrimSpace(why) == "" {
				return usageError{errors.New("say why: --reason \"the database was put back\"")}
			}
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			size, _, err := st.Store.Head(c.Context())
			if err != nil {
				return err
			}
			a := store.Anchor{By: store.ByOperator, Epoch: st.Epoch(), HW: size}
			if err := st.Quarantine(c.Context(), why, a, act.Refs{Kind: policy.KindOperator}); err != nil {
				return err
			}
			fmt.Fprintln(t.err, "In quarantine: every server of this deployment stops issuing within a second.")
			return nil
		},
	}
	c.Flags().StringVar(&why, "reason", "", "why, for the log")
	return c
}
