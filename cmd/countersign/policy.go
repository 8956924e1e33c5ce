package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/trial"
)

// What is read of a directory of policies, at most.
const (
	maxPolicyFiles = 500
	maxPolicyFile  = 1 << 20
)

func (a *app) policy() *cobra.Command {
	return group("policy", "Lay out, test, check, explain, publish and watch policies",
		a.policyFmt(), a.policyTest(), a.policyCheck(), a.policyExplain(), a.policyReplay(), a.policyDiff(), a.policyPublish(), a.policySign(), a.policyPublications(), a.policyWithdraw(), a.policyRollback(), a.policyHistory(), a.policyExport(), a.policyRules(), a.policyMonitored(), a.policyExceptions(), a.policyRollout())
}

// bundle is what a directory holds: a set, and files that try it.
type bundle struct {
	dir    string
	source policy.Source
	set    *policy.Set
	trials []trial.File
}

// bundle reads a directory: *.cedar, schema.cedarschema, and *.policy.yaml.
// Without one it is the default set, of which the tests are not kept here.
func (a *app) bundle(args []string) (*bundle, error) {
	b := &bundle{source: policy.Default()}
	if len(args) > 0 {
		b.dir, b.source = args[0], policy.Source{}
		if err := b.read(); err != nil {
			return nil, err
		}
	}
	set, err := policy.Compile(b.source)
	var faults policy.Faults
	if errors.As(err, &faults) {
		return nil, a.faulty(faults)
	}
	b.set = set
	return b, err
}

func (b *bundle) read() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return usage("The directory cannot be read: %v.", err)
	}
	for _, e := range entries {
		name := e.Name()
		known := strings.HasSuffix(name, ".cedar") || strings.HasSuffix(name, trial.Suffix) || name == policy.SchemaFile || name == trial.ExceptionsFile
		if e.IsDir() || !known {
			continue
		}
		text, err := readPolicyFile(filepath.Join(b.dir, name))
		if err != nil {
			return err
		}
		switch {
		case name == policy.SchemaFile:
			b.source.Schema = string(text)
		case name == trial.ExceptionsFile:
			if b.source.Exceptions, err = trial.Exceptions(text); err != nil {
				return &failure{exit: exitUsage, code: "exceptions_invalid", message: err.Error()}
			}
		case strings.HasSuffix(name, ".cedar"):
			b.source.Files = append(b.source.Files, policy.File{Name: name, Text: string(text)})
		default:
			f, err := trial.Parse(name, text)
			if err != nil {
				return &failure{exit: exitUsage, code: "trial_invalid", message: err.Error()}
			}
			b.trials = append(b.trials, f)
			if len(f.Never) > 0 { // which hold where they are published, too
				b.source.Floors = append(b.source.Floors, policy.File{Name: name, Text: string(text)})
			}
		}
		if len(b.source.Files)+len(b.trials) > maxPolicyFiles {
			return usage("The directory holds more than %d files of policies.", maxPolicyFiles)
		}
	}
	return nil
}

func readPolicyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, usage("The file cannot be read: %v.", err)
	case info.Size() > maxPolicyFile || !info.Mode().IsRegular():
		return nil, usage("%s is no file of policies: more than %d bytes, or no plain file.", path, maxPolicyFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		var p *fs.PathError
		errors.As(err, &p)
		return nil, usage("The file cannot be read: %v.", p)
	}
	return text, nil
}

// faulty shows everything that is wrong with a set.
func (a *app) faulty(faults policy.Faults) error {
	if a.json {
		_ = a.document("policy.faults/v1", map[string]any{"items": faults})
	} else {
		for _, f := range faults {
			a.say("%s", clean(f.String()))
		}
	}
	return &failure{exit: exitError, code: "policy_invalid", message: fmt.Sprintf("The policies cannot be enforced: %d faults.", len(faults))}
}

// warn shows what keeps nobody from enforcing a set, and is to be known.
func (a *app) warn(warnings []policy.Fault) {
	for _, w := range warnings {
		a.say("Warning: %s", clean(w.String()))
	}
}

func (a *app) policyTest() *cobra.Command {
	return &cobra.Command{
		Use:     "test DIR",
		Short:   "Run the cases of the policy tests in a directory, without a server",
		Long:    "Run the cases in the *.policy.yaml files of DIR against its *.cedar policies, without a server.\nOf rules whose @review has passed or comes within 30 days, and of exceptions that end within 7, it warns.",
		Example: "  countersign policy test ./policies",
		Args:    cobra.ExactArgs(1),
		RunE: a.do(func(_ context.Context, args []string) error {
			return a.tries(args, "test", func(b *bundle, f trial.File) []trial.Result { return trial.Test(b.set, f) }, trial.Passed)
		}),
	}
}

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check DIR",
		Short: "Prove the never statements of a directory, without a server",
		Long: `Read the policies in DIR as the server would, and prove the never statements of
its *.policy.yaml files by trying every combination of facts that the policies can
tell apart. A statement is proved, false with a combination that shows it, or
unproven where the policies go beyond what can be tried. It warns of policies that wait
for what cannot happen, of rules whose @review has passed or comes within 30 days, and of
exceptions that end within 7.`,
		Example: "  countersign policy check ./policies",
		Args:    cobra.ExactArgs(1),
		RunE: a.do(func(_ context.Context, args []string) error {
			return a.tries(args, "check", func(b *bundle, f trial.File) []trial.Result { return trial.Check(b.set, f) }, trial.Proved)
		}),
	}
}

// tries runs all the files of a directory and says what came of it.
func (a *app) tries(args []string, verb string, run func(*bundle, trial.File) []trial.Result, good string) error {
	b, err := a.bundle(args)
	if err != nil {
		return err
	}
	results := []trial.Result{}
	for i, f := range b.trials {
		if a.asks {
			fmt.Fprintf(a.err, "\r%d of %d files", i+1, len(b.trials))
		}
		results = append(results, run(b, f)...)
	}
	if a.asks && len(b.trials) > 0 {
		a.say("")
	}
	bad := 0
	for _, r := range results {
		if r.Bad() {
			bad++
		}
	}
	warnings := []policy.Fault{}
	if verb == "check" {
		warnings = append(warnings, b.set.Warnings()...)
	}
	rules, ending := a.dueIn(b.set)
	if a.json {
		said := map[string]any{"version": b.set.Version(), "items": results, "reviews": rules, "ending": ending}
		if len(warnings) > 0 {
			said["warnings"] = warnings
		}
		if err := a.document("policy."+verb+"/v1", said); err != nil {
			return err
		}
	} else {
		a.warn(warnings)
		for _, r := range results {
			fmt.Fprintln(a.out, clean(strings.TrimSpace(fmt.Sprintf("%-8s %s: %s: %s", r.Result, r.File, r.Name, r.Detail))))
		}
		a.remind(rules, ending)
		a.say("%d %s, %d not.", len(results)-bad, good, bad)
	}
	if bad > 0 {
		return &failure{exit: exitError, code: "policy_" + verb + "_failed", message: fmt.Sprintf("%d of %d are not %s.", bad, len(results), good)}
	}
	return nil
}

func (a *app) policyExplain() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "explain FILE [NAME]",
		Short: "Say what the policies answer to the cases of a file, and why",
		Long: `Say what the policies answer to the cases of a *.policy.yaml file, or to the one
with that name: the answer, what would change it, and every reason with its policy.
The policies are those of --policies, or the default set.`,
		Example: "  countersign policy explain ./policies/ladder.policy.yaml \"low risk is silent\"",
		Args:    cobra.RangeArgs(1, 2),
	}
	c.Flags().StringVar(&dir, "policies", "", "directory of policies; the default set if left out")
	c.RunE = a.do(func(_ context.Context, args []string) error {
		var from []string
		if dir != "" {
			from = []string{dir}
		}
		b, err := a.bundle(from)
		if err != nil {
			return err
		}
		text, err := readPolicyFile(args[0])
		if err != nil {
			return err
		}
		f, err := trial.Parse(filepath.Base(args[0]), text)
		if err != nil {
			return &failure{exit: exitUsage, code: "trial_invalid", message: err.Error()}
		}
		if len(args) > 1 {
			f.Cases = slices.DeleteFunc(f.Cases, func(c trial.Case) bool { return c.Name != args[1] })
			if len(f.Cases) == 0 {
				return usage("%s has no case %q.", args[0], args[1])
			}
		}
		return a.explained(b.set, f)
	})
	return c
}

// lifeWords says how long what a decision allows may live.
func lifeWords(d policy.Decision) string {
	var out []string
	if d.MaxLife > 0 {
		out = append(out, "tokens live "+d.MaxLife.String()+" at most")
	}
	if d.MaxGrant > 0 {
		out = append(out, "grants and sessions "+d.MaxGrant.String()+" at most")
	}
	return strings.Join(out, ", ")
}

func (a *app) explained(set *policy.Set, f trial.File) error {
	items := []map[string]any{}
	for i := range f.Cases {
		c := f.Cases[i]
		d, err := trial.Explain(set, c)
		if err != nil {
			return &failure{exit: exitUsage, code: "trial_invalid", message: fmt.Sprintf("case %q: %v", c.Name, err)}
		}
		if a.json {
			items = append(items, map[string]any{
				"name": c.Name, "action": c.Action, "outcome": d.Outcome.String(), "code": d.Code, "needs": policy.Words(d.Ask),
				"review": d.Review, "max_life": int64(d.MaxLife.Seconds()), "max_grant_life": int64(d.MaxGrant.Seconds()), "at_server": set.AtServer(policy.Action(c.Action)), "reasons": d.Reasons,
			})
			continue
		}
		fmt.Fprintln(a.out, clean(fmt.Sprintf("%s: %s", c.Name, trial.Answer(d))))
		if d.MaxLife > 0 || d.MaxGrant > 0 {
			fmt.Fprintln(a.out, "  "+lifeWords(d))
		}
		for _, r := range d.Reasons {
			line := fmt.Sprintf("  %s: %s", r.Policy, r.Text)
			if r.Owner != "" {
				line += " Ask " + r.Owner + "."
			}
			fmt.Fprintln(a.out, clean(line))
		}
	}
	if a.json {
		return a.document("policy.explain/v1", map[string]any{"version": set.Version(), "items": items})
	}
	return nil
}
