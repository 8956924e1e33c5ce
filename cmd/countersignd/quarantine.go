package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/store"
)

func (t *tool) quarantine() *cobra.Command {
	c := &cobra.Command{
		Use: "quarantine", Short: "See and end the quarantine of a database that has gone back in time",
		Long: "A restored database would revive what was revoked, removed or used since. A server that finds that it was farther than its database is goes into quarantine: it answers health checks and these commands, and nobody else.",
	}
	c.AddCommand(t.quarantineStatus(), t.quarantineEnter(), t.quarantineLeave(), t.quarantineDismiss(), t.quarantineRelease())
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
			return t.suspended(c.Context(), st)
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

// suspended says what waits to be released.
func (t *tool) suspended(ctx context.Context, st *server.State) error {
	n, err := st.Store.Suspended(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.out, "suspended:  %d people, %d services, %d clients, %d trusted issuers, %d webhooks\n", n.People, n.Services, n.Clients, n.Issuers, n.Webhooks)
	return nil
}

// unknown is what nobody can know who restores without an export that reaches the
// end.
const unknown = `What was done after the backup and not replayed is not known:
  who was disabled, erased or taken out of a group; which passkeys, passwords, codes
  and authenticator apps were removed or replaced; which clients, services and secrets
  were ended or changed; what trusted issuers were trusted with; where webhooks went;
  which policies were published, and what resources and scopes asked for. All people,
  services, clients, trusted issuers and webhooks are suspended until they are released,
  and what people agreed to is asked again:
    countersignd quarantine release --people --group administrators
    countersignd quarantine release --clients
`

func (t *tool) quarantineLeave() *cobra.Command {
	var complete bool
	var checkpoints []string
	c := &cobra.Command{
		Use: "leave", Short: "End the quarantine", Args: cobra.NoArgs,
		Long: "End the quarantine in one act: a new epoch of log and feed begins, all sessions, grants, codes and links end, one-time codes of until now count as used, every key but the log's is replaced, and people, services, clients, trusted issuers and webhooks stay suspended until they are released; what people agreed to is asked again. With --complete only what was changed after the backup is suspended: it says that nothing was revoked, removed or used after the backup that was not replayed, and is refused if something has seen more than that. Servers that run start anew by themselves.",
		RunE: func(c *cobra.Command, _ []string) error {
			how := server.LeaveAs{Complete: complete}
			for _, path := range checkpoints {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				how.Checkpoints = append(how.Checkpoints, b)
			}
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			if err := st.Leave(c.Context(), how); err != nil {
				return err
			}
			fmt.Fprintf(t.out, "The quarantine has ended; this is epoch %d.\n", st.Epoch())
			if !complete {
				fmt.Fprint(t.out, unknown)
			}
			fmt.Fprintln(t.err, "Everybody signs in again. Pin the log's new name: countersignd audit status")
			return t.suspended(c.Context(), st)
		},
	}
	c.Flags().BoolVar(&complete, "complete", false, "say that nothing was taken away after the backup that was not replayed")
	c.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "file with a checkpoint of this log that was kept elsewhere; may be given again")
	return c
}

func (t *tool) quarantineDismiss() *cobra.Command {
	return &cobra.Command{
		Use: "dismiss", Short: "End a quarantine that began only because the database moved", Args: cobra.NoArgs,
		Long: "Say that PostgreSQL was upgraded, moved or switched to a standby while no server ran, and that nothing was lost thereby. The quarantine ends; everything goes on working. It is refused if something is known to be missing from the database, and if the quarantine has another reason.",
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			if err := st.Dismiss(c.Context()); err != nil {
				return err
			}
			fmt.Fprintf(t.out, "The quarantine has ended; this still is epoch %d.\n", st.Epoch())
			return nil
		},
	}
}

func (t *tool) quarantineRelease() *cobra.Command {
	var people, services, clients, issuers, webhooks bool
	var w server.ReleaseWhat
	c := &cobra.Command{
		Use: "release", Short: "Have what leaving the quarantine suspended work again", Args: cobra.NoArgs,
		Long: "Have people, services, clients, trusted issuers or webhooks that leaving the quarantine suspended work again. What of theirs was removed after the backup works again, too: have people look at how they sign in, and remove what they had removed.",
		RunE: func(c *cobra.Command, _ []string) error {
			kinds := map[lineage.Kind]bool{lineage.Person: people, lineage.Service: services, lineage.Client: clients, lineage.Connection: issuers, 0: webhooks}
			n := 0
			for k, chosen := range kinds {
				if chosen {
					n, w.Kind = n+1, k
				}
			}
			if n != 1 || w.Group != "" && !people {
				return usageError{errors.New("say one of --people (with --group NAME, if not all), --services, --clients, --issuers and --webhooks")}
			}
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			if err := st.Release(c.Context(), w); err != nil {
				return err
			}
			return t.suspended(c.Context(), st)
		},
	}
	c.Flags().BoolVar(&people, "people", false, "people")
	c.Flags().BoolVar(&services, "services", false, "services")
	c.Flags().BoolVar(&clients, "clients", false, "clients")
	c.Flags().BoolVar(&issuers, "issuers", false, "trusted issuers")
	c.Flags().BoolVar(&webhooks, "webhooks", false, "webhooks")
	c.Flags().StringVar(&w.Group, "group", "", "only the members of this group")
	c.Flags().StringVar(&w.ID, "id", "", "only this one")
	return c
}
