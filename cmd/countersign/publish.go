package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/diff"
	"github.com/countersign-dev/countersign/internal/policy/trial"
)

// policyVersion is a version of the policies as the server tells it.
type policyVersion struct {
	Version     int64         `json:"version"`
	Hash        string        `json:"hash"`
	PublishedBy string        `json:"published_by"`
	PublishedAt time.Time     `json:"published_at"`
	Note        string        `json:"note"`
	Restores    *int64        `json:"restores"`
	Schema      string        `json:"schema"`
	Files       []policy.File `json:"files"`

	Exceptions []policy.Exception `json:"exceptions"`
	Floors     []policy.File      `json:"floors"`

	Publication  string `json:"publication"`
	SignedBy     string `json:"signed_by"`
	CarriedOutBy string `json:"carried_out_by"`
}

// by says who answers for a version, and who put it in force.
func (v *policyVersion) by() (signer, carrier string) {
	switch {
	case v.SignedBy != "":
		return v.SignedBy, v.CarriedOutBy
	case v.PublishedBy == "":
		return "nobody", "the operator"
	}
	return "nobody", v.PublishedBy
}

func (v policyVersion) source() policy.Source {
	return policy.Source{Schema: v.Schema, Files: v.Files, Exceptions: v.Exceptions, Floors: v.Floors}
}

// inForce reads the version in force, with its source.
func (x *api) inForce(ctx context.Context) (policyVersion, error) {
	n, err := x.head(ctx)
	if err != nil {
		return policyVersion{}, err
	}
	return x.policies(ctx, n)
}

// head is the number of the version in force.
func (x *api) head(ctx context.Context) (int64, error) {
	r, err := x.do(ctx, http.MethodGet, "/policies?limit=1", nil, "")
	if err != nil {
		return 0, err
	}
	var page struct {
		Items []policyVersion `json:"items"`
	}
	if err := json.Unmarshal(r.body, &page); err != nil {
		return 0, badPolicies()
	}
	if len(page.Items) == 0 {
		return 0, nil
	}
	return page.Items[0].Version, nil
}

// inForce opens the API and reads the version in force there.
func (a *app) inForce(ctx context.Context) (*api, policyVersion, error) {
	x, err := a.policyAPI(ctx)
	if err != nil {
		return nil, policyVersion{}, err
	}
	v, err := x.inForce(ctx)
	return x, v, err
}

func badPolicies() error {
	return &failure{exit: exitError, code: "bad_answer", message: "The server's policies cannot be read."}
}

// policies reads a version, and holds it to its hash.
func (x *api) policies(ctx context.Context, n int64) (policyVersion, error) {
	r, err := x.do(ctx, http.MethodGet, "/policies/"+strconv.FormatInt(n, 10), nil, "")
	if err != nil {
		return policyVersion{}, err
	}
	var v policyVersion
	if err := json.Unmarshal(r.body, &v); err != nil || v.Version != n || v.source().Hash() != v.Hash {
		return policyVersion{}, badPolicies()
	}
	return v, nil
}

func (a *app) policyHistory() *cobra.Command {
	return &cobra.Command{Use: "history", Short: "List the versions of the policies, newest first", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		x, err := a.policyAPI(ctx)
		if err != nil {
			return err
		}
		raw, versions, err := items[policyVersion](ctx, x, "/policies")
		if err != nil {
			return err
		}
		if a.json {
			return a.document("policy.history/v1", map[string]any{"items": raw})
		}
		rows := [][]string{}
		for _, v := range versions {
			note := v.Note
			if v.Restores != nil {
				note = strings.TrimSpace(fmt.Sprintf("version %d again. %s", *v.Restores, note))
			}
			signer, carrier := v.by()
			rows = append(rows, []string{strconv.FormatInt(v.Version, 10), v.PublishedAt.Format(time.DateTime), signer, carrier, v.Hash, note})
		}
		if len(rows) == 0 {
			a.say("Nothing was published: the default set is in force.")
			return nil
		}
		a.table([]string{"VERSION", "PUBLISHED", "SIGNED BY", "CARRIED OUT BY", "HASH", "NOTE"}, rows)
		return nil
	})}
}

func (a *app) policyExport() *cobra.Command {
	var version int64
	c := &cobra.Command{
		Use:     "export DIR",
		Short:   "Write the policies in force to a new directory",
		Long:    "Write the policies in force, or those of --version, to a directory that does not exist yet. Version 0 is the default set.",
		Example: "  countersign policy export ./policies",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().Int64Var(&version, "version", -1, "the version; that in force if left out")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		x, err := a.policyAPI(ctx)
		if err != nil {
			return err
		}
		var v policyVersion
		if version < 0 {
			v, err = x.inForce(ctx)
		} else {
			v, err = x.policies(ctx, version)
		}
		if err != nil {
			return err
		}
		if err := writePolicies(args[0], v.source()); err != nil {
			return err
		}
		if a.json {
			return a.document("policy.export/v1", map[string]any{"version": v.Version, "hash": v.Hash, "directory": args[0]})
		}
		a.say("Version %d is in %s.", v.Version, clean(args[0]))
		return nil
	})
	return c
}

// writePolicies writes a source to a new directory. Names come from the server:
// none may leave the directory.
func writePolicies(dir string, src policy.Source) error {
	files := diff.Files(src)
	for _, f := range files {
		known := f.Name == policy.SchemaFile || f.Name == trial.ExceptionsFile || strings.HasSuffix(f.Name, ".cedar") || strings.HasSuffix(f.Name, trial.Suffix)
		if f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") || !known {
			return &failure{exit: exitError, code: "bad_answer", message: "The server's policies have a file of a name that cannot be written: " + clean(f.Name)}
		}
	}
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return usage("There is a %s already: name a directory that is not there yet.", clean(dir))
	}
	if err != nil {
		return usage("The directory cannot be made: %v.", err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), []byte(f.Text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) policyDiff() *cobra.Command {
	return &cobra.Command{
		Use: "diff DIR", Short: "Show how the policies in a directory differ from those in force", Example: "  countersign policy diff ./policies",
		Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
			b, err := a.bundle(args)
			if err != nil {
				return err
			}
			_, v, err := a.inForce(ctx)
			if err != nil {
				return err
			}
			lines := differenceOf(v.source(), b.source)
			if a.json {
				return a.document("policy.diff/v1", map[string]any{"version": v.Version, "from": v.Hash, "to": b.source.Hash(), "lines": lines})
			}
			a.printDifference(lines, v.Version, b.set)
			return nil
		}),
	}
}

// printDifference shows what goes and comes, and what is to be known of what comes.
func (a *app) printDifference(lines []string, version int64, comes *policy.Set) {
	for _, l := range lines {
		fmt.Fprintln(a.out, clean(l))
	}
	if len(lines) == 0 {
		a.say("Nothing differs from version %d.", version)
	}
	a.warn(comes.Warnings())
}

// differenceOf gives the lines that go and come, each under the name of its file.
func differenceOf(from, to policy.Source) []string {
	out := []string{}
	for _, f := range diff.Of(from, to, 0) {
		out = append(out, "@ "+f.Name)
		for _, l := range f.Lines {
			out = append(out, string(l.Op)+" "+l.Text)
		}
	}
	return out
}

func (a *app) policyPublish() *cobra.Command {
	var note string
	var yes bool
	var w waiting
	c := &cobra.Command{
		Use:   "publish DIR",
		Short: "Put the policies in a directory in force, once a person has signed them",
		Long: `Put the policies in DIR in force. Its tests and never statements have to hold; what
differs from the version in force is shown, and asked about. A person has to sign
exactly these policies: unless one has, this hands them in, opens or prints the page on
which they are signed, waits, and then puts them in force. The page wants an
administrator's passkey, and refuses policies under which they could not sign others.
Run again, it finds the same. countersign policy rollback undoes it.

A pipeline acts as a service, with the scope policies and nothing else: its key is in
the file $COUNTERSIGN_CLIENT_KEY, its name is $COUNTERSIGN_CLIENT_ID, the server
$COUNTERSIGN_ISSUER. With --no-wait it ends at once, with exit code 5, until somebody
has signed.`,
		Example: "  countersign policy publish ./policies --note \"deploys need a passkey\"",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&note, "note", "", "why, in a line")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.flags(c)
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		w.again = "countersign policy publish " + args[0]
		if err := w.check(); err != nil {
			return err
		}
		b, x, v, err := a.differing(ctx, args, yes, "Publish", w.again)
		if err != nil {
			return err
		}
		r, err := a.forward(ctx, x, "/policies", bodyOf(b, v.Version, note), w)
		if err != nil {
			return err
		}
		return a.published(r)
	})
	return c
}

// differing reads a directory of which the tests hold and that differs from the version
// in force, shows how, and asks whoever is there whether to go on.
func (a *app) differing(ctx context.Context, args []string, yes bool, verb, again string) (*bundle, *api, policyVersion, error) {
	b, err := a.bundle(args)
	if err == nil {
		err = a.holds(b)
	}
	if err != nil {
		return nil, nil, policyVersion{}, err
	}
	x, v, err := a.inForce(ctx)
	if err != nil {
		return nil, nil, v, err
	}
	lines := differenceOf(v.source(), b.source)
	if !a.json {
		a.printDifference(lines, v.Version, b.set)
	}
	if len(lines) == 0 {
		return nil, nil, v, &failure{exit: exitError, code: "policy_unchanged", message: "These policies are in force already.", fix: "countersign policy history"}
	}
	return b, x, v, a.agreed(yes, verb+" "+b.source.Hash()+"?", again+" --yes")
}

// bodyOf is a set as the server is sent it, to follow a version.
func bodyOf(b *bundle, after int64, note string) map[string]any {
	files := b.source.Files
	if files == nil {
		files = []policy.File{}
	}
	return map[string]any{
		"after": after, "hash": b.source.Hash(), "schema": b.source.Schema, "files": files, "note": note,
		"exceptions": b.source.Exceptions, "floors": b.source.Floors,
	}
}

// holds refuses a bundle of which a test or statement does not hold.
func (a *app) holds(b *bundle) error {
	for _, f := range b.trials {
		for _, r := range append(trial.Test(b.set, f), trial.Check(b.set, f)...) {
			if r.Bad() {
				return &failure{
					exit: exitError, code: "policy_tests", message: fmt.Sprintf("%s: %s: %s: %s", r.File, r.Name, r.Result, r.Detail),
					fix: "countersign policy test " + b.dir,
				}
			}
		}
	}
	return nil
}

// agreed asks whoever is there.
func (a *app) agreed(yes bool, question, fix string) error {
	if yes {
		return nil
	}
	if !a.asks {
		return nobodyAsked(fix)
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return &failure{exit: exitDenied, code: "not_confirmed", message: "Nothing was changed."}
}

func nobodyAsked(fix string) error {
	return &failure{exit: exitUsage, code: "confirmation_needed", message: "Nobody can be asked, so nothing was changed.", fix: fix}
}

// published says which version was put in force.
func (a *app) published(r reply) error {
	var v policyVersion
	if err := json.Unmarshal(r.body, &v); err != nil || v.Version == 0 {
		return badPolicies()
	}
	if a.json {
		return a.document("policy.publish/v1", map[string]any{"version": v.Version, "hash": v.Hash, "publication": v.Publication, "signed_by": v.SignedBy, "carried_out_by": v.CarriedOutBy})
	}
	a.say("Version %d is in force. To undo it: countersign policy rollback", v.Version)
	return nil
}

func (a *app) policyRollback() *cobra.Command {
	var note string
	var yes bool
	c := &cobra.Command{
		Use:     "rollback [VERSION]",
		Short:   "Put an earlier version of the policies back, as a new one",
		Long:    "Put the version before the one in force back, or the one named; 0 is the default set.",
		Example: "  countersign policy rollback",
		Args:    cobra.MaximumNArgs(1),
	}
	c.Flags().StringVar(&note, "note", "", "why, in a line")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		x, v, err := a.inForce(ctx)
		if err != nil {
			return err
		}
		to := v.Version - 1
		if len(args) > 0 {
			if to, err = strconv.ParseInt(args[0], 10, 64); err != nil || to < 0 {
				return usage("%q is no version: countersign policy history lists them.", args[0])
			}
		}
		if to < 0 || to >= v.Version {
			return usage("Version %d is in force: there is nothing earlier to put back.", v.Version)
		}
		if err := a.agreed(yes, fmt.Sprintf("Put version %d back in the place of %d?", to, v.Version), "countersign policy rollback --yes"); err != nil {
			return err
		}
		r, err := x.do(ctx, http.MethodPost, "/policies/rollback", map[string]any{"after": v.Version, "to": to, "note": note}, "")
		if err != nil {
			return err
		}
		return a.published(r)
	})
	return c
}
