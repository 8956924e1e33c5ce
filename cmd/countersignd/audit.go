package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/store"
)

// findings says that a check ran and found something wrong; it was printed.
type findings struct{ n int }

// Error implements error.
func (f *findings) Error() string { return fmt.Sprintf("%d findings", f.n) }

func (t *tool) audit() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Read, verify and export the audit log"}
	c.AddCommand(t.auditList(), t.auditVerify(), t.auditExport(), t.auditStatus(), t.auditRetention(), t.auditHold(), t.auditPrune())
	return c
}

// auditLine is a record in JSON (schema 1).
type auditLine struct {
	Seq      int64    `json:"seq"`
	ID       string   `json:"id"`
	At       string   `json:"at"`
	Kind     string   `json:"kind"`
	Refused  bool     `json:"refused,omitempty"`
	Sentence string   `json:"sentence"`
	Persons  []string `json:"persons,omitempty"`
	Client   string   `json:"client,omitempty"`
	Actor    string   `json:"actor"`
	ACR      string   `json:"acr,omitempty"`
	Proofs   string   `json:"proofs,omitempty"`
	Reasons  []string `json:"reasons,omitempty"`
	Code     string   `json:"code,omitempty"`
	Policy   string   `json:"policy,omitempty"`
	// Monitored is what policies in mode monitor would have answered, where that differs.
	Monitored string `json:"monitored,omitempty"`
	// Rollout is what one that runs makes of it, and the answer that was not given.
	Rollout string `json:"rollout,omitempty"`
	// Taken is what the act took away, in exports: restore replay reads it.
	Taken []store.Taken `json:"taken,omitempty"`
}

func lineOf(l audit.Line) auditLine {
	return auditLine{
		l.Seq, l.ID, l.At.Format(time.RFC3339Nano), l.Kind.Name(), l.Refused, l.Sentence, l.Persons, l.Client, l.Actor, l.Assurance, l.Proofs, l.Reasons, l.Code, l.Policy, l.Monitored, l.Rollout, nil,
	}
}

func (t *tool) auditList() *cobra.Command {
	var n int
	var asJSON bool
	var kinds []string
	c := &cobra.Command{
		Use: "list", Short: "List what happened, newest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f := store.Filter{}
			for _, k := range kinds {
				kind, ok := audit.KindOf(k)
				if !ok {
					return usageError{fmt.Errorf("there is no kind of record called %q", k)}
				}
				f.Kinds = append(f.Kinds, kind)
			}
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			return t.list(c.Context(), st, f, n, asJSON)
		},
	}
	c.Flags().IntVarP(&n, "number", "n", 50, "how many records")
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	c.Flags().StringSliceVar(&kinds, "kind", nil, "only records of these kinds, e.g. session.opened")
	return c
}

func (t *tool) list(ctx context.Context, st *server.State, f store.Filter, n int, asJSON bool) error {
	for n > 0 {
		lines, more, err := st.Lines(ctx, f, min(n, 200))
		if err != nil {
			return err
		}
		for _, l := range lines {
			if asJSON {
				b, err := json.Marshal(lineOf(l))
				if err != nil {
					return err
				}
				fmt.Fprintf(t.out, "%s\n", b)
				continue
			}
			fmt.Fprintln(t.out, say(l))
		}
		n -= len(lines)
		if f.Before = more; more == "" {
			return nil
		}
	}
	return nil
}

// say is a record in a line: when, what happened, with which proofs, at which
// assurance, by which rule.
func say(l audit.Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s", l.At.Format("2006-01-02 15:04:05"), l.Sentence)
	var more []string
	if l.Proofs != "" {
		more = append(more, "proofs: "+l.Proofs)
	}
	if l.Assurance != "" {
		more = append(more, "assurance: "+l.Assurance)
	}
	if len(l.Reasons) > 0 {
		more = append(more, "because: "+strings.Join(l.Reasons, ", "))
	}
	if l.Code != "" {
		more = append(more, "refused: "+l.Code)
	}
	if l.Rollout != "" {
		more = append(more, "rollout: "+l.Rollout)
	}
	if l.Monitored != "" {
		more = append(more, "monitored: "+l.Monitored)
	}
	if len(more) > 0 {
		fmt.Fprintf(&b, "  [%s]", strings.Join(more, "; "))
	}
	fmt.Fprintf(&b, "  %s", l.ID)
	return b.String()
}

func (t *tool) auditVerify() *cobra.Command {
	var against, archives []string
	c := &cobra.Command{
		Use: "verify", Short: "Prove the audit log whole", Args: cobra.NoArgs,
		Long: "Recompute every entry, commitment, tile and root of the log and check every signed checkpoint. With --against, compare with a checkpoint kept elsewhere: only that shows whether the end was cut off. Without it, the checkpoint in the data folder is used if there is one. Exit code 3 if anything is wrong.",
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			outside, asked, err := t.outside(c.Context(), st, against)
			if err != nil {
				return err
			}
			o := audit.Options{Keys: st.Names}
			if len(archives) > 0 {
				o.Archive = &server.Archives{Dirs: archives}
			}
			reports, err := st.Verify(c.Context(), outside, o)
			if err != nil {
				return err
			}
			return t.verified(reports, outside, asked)
		},
	}
	c.Flags().StringArrayVar(&archives, "archive", nil, "folder that records were pruned into; may be given again")
	c.Flags().StringArrayVar(&against, "against", nil, "file with a checkpoint or a proof kept elsewhere, @witnesses (those of the configuration) or @kept (its files and git remotes); may be given again")
	return c
}

// asked is what the witnesses said.
type asked struct {
	agree  []string
	faults []error
}

// outside reads what to compare with: what is named, or the checkpoint beside the
// database.
func (t *tool) outside(ctx context.Context, st *server.State, against []string) (out []server.Outside, a asked, err error) {
	if len(against) == 0 {
		if p := filepath.Join(st.Config.DataDir, "checkpoint"); exists(p) {
			against = []string{p}
		}
	}
	for _, from := range against {
		switch from {
		case "@witnesses":
			a.agree, a.faults, err = st.AskWitnesses(ctx)
		case "@kept":
			var kept []server.Outside
			kept, err = st.AllKept(ctx)
			out = append(out, kept...)
		default:
			var one server.Outside
			one, err = outsideFile(st, from)
			out = append(out, one)
		}
		if err != nil {
			return nil, a, err
		}
	}
	return out, a, nil
}

func outsideFile(st *server.State, path string) (server.Outside, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return server.Outside{}, err
	}
	if server.IsProof(text) {
		return st.Proof(text, path)
	}
	return server.Outside{Where: path, Text: text}, nil
}

// verified says what was found; the last line of each epoch says what could not be
// excluded.
func (t *tool) verified(reports []server.EpochReport, outside []server.Outside, a asked) error {
	faults := 0
	for _, r := range reports {
		if len(reports) > 1 {
			fmt.Fprintf(t.out, "Epoch %d, %s:\n", r.Epoch.N, r.Epoch.Origin)
		}
		for _, l := range r.Lines() {
			fmt.Fprintln(t.out, l)
		}
		if !r.OK() {
			faults++
		}
	}
	for _, o := range outside {
		fmt.Fprintf(t.out, "Compared with the checkpoint in %s.\n", o.Where)
	}
	for _, l := range a.agree {
		fmt.Fprintln(t.out, l)
	}
	for _, err := range a.faults {
		faults++
		fmt.Fprintf(t.out, "Not agreed: %v.\n", err)
	}
	if faults > 0 {
		return &findings{faults}
	}
	return nil
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func (t *tool) auditExport() *cobra.Command {
	var from uint64
	c := &cobra.Command{
		Use: "export", Short: "Write records as JSON lines, oldest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := t.state(c.Context())
			if err != nil {
				return err
			}
			defer st.Close()
			return st.Export(c.Context(), from, func(l audit.Line, taken []store.Taken) error {
				out := lineOf(l)
				out.Taken = taken
				b, err := json.Marshal(out)
				if err == nil {
					_, err = fmt.Fprintf(t.out, "%s\n", b)
				}
				return err
			})
		},
	}
	c.Flags().Uint64Var(&from, "from", 0, "number of the first record")
	return c
}

func (t *tool) auditStatus() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Say how far the log is numbered and signed, and by which key", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		st, err := t.state(c.Context())
		if err != nil {
			return err
		}
		defer st.Close()
		n, err := st.Store.Counts(c.Context())
		if err != nil {
			return err
		}
		key, err := st.VerificationKey()
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "records:    %d numbered, %d waiting, %d under the newest checkpoint\nepoch:      %d\nlog key:    %s\n", n.Records, n.Pending, n.Signed, st.Epoch(), key)
		w, err := st.Watched(c.Context())
		if err != nil {
			return err
		}
		t.watchers(w, filepath.Join(st.Config.DataDir, "checkpoint"))
		return nil
	}}
}

// watchers says who watches the log from outside.
func (t *tool) watchers(w server.Watchers, file string) {
	switch {
	case w.Quorum && !w.At.IsZero():
		fmt.Fprintf(t.out, "witnesses:  the quorum has cosigned %d records, at %s\n", w.Size, w.At.Format(time.RFC3339))
	case w.Quorum:
		fmt.Fprintln(t.out, "witnesses:  not witnessed: the quorum has cosigned nothing")
	case len(w.List) == 0:
		fmt.Fprintf(t.out, "witnesses:  not witnessed: keep a copy of %s elsewhere\n", file)
	default:
		fmt.Fprintln(t.out, "witnesses:  no quorum is asked for")
	}
	for _, o := range w.List {
		kind, what := "kept in", fmt.Sprintf("%d records", o.Size)
		if o.Witness {
			kind = "witness"
		}
		if !o.At.IsZero() {
			what += " at " + o.At.Format(time.RFC3339)
		}
		if o.Fault != "" {
			what = o.Fault
		}
		fmt.Fprintf(t.out, "  %s %s: %s\n", kind, o.Name, what)
	}
}
