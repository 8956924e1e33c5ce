package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/store"
)

func (t *tool) auditRetention() *cobra.Command {
	var set []string
	c := &cobra.Command{
		Use: "retention", Short: "Show or set how many days records of a class stay in the database", Args: cobra.NoArgs,
		Long: "The classes are routine (tokens issued and refreshed), access (sign-ins, sessions, refusals), identity (people, groups, factors) and authority (approvals, clients, keys, policy). Records of the log about itself stay for ever, and so does what no time is set for. Nothing goes away by itself: audit prune moves what is due into an archive.",
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			for _, s := range set {
				class, text, _ := strings.Cut(s, "=")
				days, err := strconv.Atoi(text)
				if err != nil {
					return usageError{fmt.Errorf("%q is not a class and days, e.g. routine=90", s)}
				}
				if err := st.SetRetention(c.Context(), audit.Class(class), days); err != nil {
					return err
				}
			}
			kept, err := st.Store.Retention(c.Context())
			if err != nil {
				return err
			}
			for _, class := range []audit.Class{audit.Routine, audit.Access, audit.Identity, audit.Authority, audit.Log} {
				how := "for ever"
				if days := kept[class]; days > 0 {
					how = fmt.Sprintf("%d days", days)
				}
				fmt.Fprintf(t.out, "%-10s %s\n", class, how)
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&set, "set", nil, "class=days, 0 for ever; may be given again")
	return c
}

func (t *tool) auditHold() *cobra.Command {
	c := &cobra.Command{Use: "hold", Short: "Place, list and release legal holds", Long: "What a legal hold covers, everything or what concerns a person, is neither pruned nor erased until it is released."}
	var user, reason string
	var everything bool
	place := &cobra.Command{
		Use: "place", Short: "Place a hold", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if everything == (user != "") || strings.TrimSpace(reason) == "" {
				return usageError{errors.New("say what is held, --user NAME or --everything, and --reason")}
			}
			return t.placeHold(c.Context(), user, reason)
		},
	}
	place.Flags().StringVar(&user, "user", "", "user name of the person")
	place.Flags().BoolVar(&everything, "everything", false, "all records")
	place.Flags().StringVar(&reason, "reason", "", "why")
	list := &cobra.Command{Use: "list", Short: "List the holds", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		st, err := t.state(c.Context())
		if err != nil {
			return err
		}
		defer st.Close()
		holds, err := st.Store.Holds(c.Context(), true)
		if err != nil {
			return err
		}
		for _, h := range holds {
			what, until := "everything", "in force"
			if h.Person != "" {
				what = h.Person
			}
			if !h.ReleasedAt.IsZero() {
				until = "released " + h.ReleasedAt.Format(time.RFC3339)
			}
			fmt.Fprintf(t.out, "%s  %s  since %s, %s: %s\n", h.ID, what, h.PlacedAt.Format(time.RFC3339), until, h.Reason)
		}
		return nil
	}}
	release := &cobra.Command{Use: "release ID", Short: "Release a hold", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		st, err := t.state(c.Context())
		if err != nil {
			return err
		}
		defer st.Close()
		return st.ReleaseHold(c.Context(), args[0])
	}}
	c.AddCommand(place, list, release)
	return c
}

func (t *tool) placeHold(ctx context.Context, user, reason string) error {
	st, err := t.state(ctx)
	if err != nil {
		return err
	}
	defer st.Close()
	h := store.Hold{ID: id.New("hld_"), Reason: reason}
	if user != "" {
		p, err := st.Store.PersonByUsername(ctx, user)
		if err != nil {
			return err
		}
		h.Person = p.ID
	}
	if err := st.PlaceHold(ctx, h); err != nil {
		return err
	}
	fmt.Fprintln(t.out, h.ID)
	return nil
}

func (t *tool) auditPrune() *cobra.Command {
	var to string
	var dry bool
	c := &cobra.Command{
		Use: "prune", Short: "Move records whose time is over into an archive", Args: cobra.NoArgs,
		Long: "Records older than their class is kept (audit retention) and not on hold are written to a folder, as C2SP tlog-tiles has them and as rows, and then removed from the database. The log says so. Their leaves stay, so the log goes on verifying; audit verify --archive checks what they said, too. Keep the folder: nothing else has them then. A server may run meanwhile.",
		RunE: func(c *cobra.Command, _ []string) error {
			if (to == "") != dry {
				return usageError{errors.New("say where the records go, --to FOLDER, or only count them, --dry-run")}
			}
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			p, err := st.Prune(c.Context(), to, dry, func(p server.Pruned) {
				fmt.Fprintf(t.err, "%d records moved\n", p.Records)
			})
			if err != nil {
				return err
			}
			what := "moved into " + filepath.Clean(to)
			if dry {
				what = "due"
			}
			fmt.Fprintf(t.out, "%d records %s, %d on hold\n", p.Records, what, p.Held)
			var classes []string
			for class := range p.Classes {
				classes = append(classes, class)
			}
			slices.Sort(classes)
			for _, class := range classes {
				fmt.Fprintf(t.out, "  %-10s %d\n", class, p.Classes[class])
			}
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "folder of the archive; it may have some already")
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what is due")
	return c
}
