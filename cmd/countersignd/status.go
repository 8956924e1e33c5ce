package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/store"
)

// staleBackup is the age from which a backup is spoken of.
const staleBackup = 7 * 24 * time.Hour

func (t *tool) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say how the deployment is, and what its operator should do", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			d, err := st.Store.Deployment(c.Context())
			if err != nil {
				return err
			}
			n, err := st.Store.Counts(c.Context())
			if err != nil {
				return err
			}
			quarantine := "no"
			if !d.Quarantined.IsZero() {
				quarantine = "since " + d.Quarantined.Format(time.RFC3339) + ": " + d.Why + "; see countersignd quarantine status"
			}
			fmt.Fprintf(t.out, "issuer:     %s\nepoch:      %d\nquarantine: %s\nlog:        %d records, %d waiting, %d under the newest checkpoint\n",
				d.Issuer, d.Epoch, quarantine, n.Records, n.Pending, n.Signed)
			if place, ok := st.Store.DatabasePlace(); ok {
				fmt.Fprintf(t.out, "database:   %s\n", place)
			}
			return t.backups(c.Context(), st)
		},
	}
}

// backups says when there was a backup, and whether it is known that one can be
// restored.
func (t *tool) backups(ctx context.Context, st *server.State) error {
	for _, f := range [][3]string{
		{store.FactBackup, "backup:    ", "never made: countersignd backup --to FILE --recipient age1…"},
		{store.FactRehearsed, "rehearsal: ", "never rehearsed: countersignd restore --rehearse FILE --identity FILE"},
	} {
		fact, ok, err := st.Store.Fact(ctx, f[0])
		if err != nil {
			return err
		}
		if !ok {
			fmt.Fprintln(t.out, f[1], f[2])
			continue
		}
		var of struct {
			MadeAt time.Time `json:"made_at"`
			HW     uint64    `json:"hw"`
		}
		if err := json.Unmarshal([]byte(fact.Value), &of); err != nil {
			return err
		}
		old := ""
		if time.Since(of.MadeAt) > staleBackup {
			old = "; that is long ago"
		}
		fmt.Fprintf(t.out, "%s of %s, %d records%s\n", f[1], of.MadeAt.Format(time.RFC3339), of.HW, old)
	}
	return nil
}
