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

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/trial"
)

func (a *app) policyExceptionAdd() *cobra.Command {
	var e trial.Exception
	c := &cobra.Command{
		Use:   "add DIR ID",
		Short: "Write an exception into exceptions.yaml of a directory",
		Long: `Write an exception into exceptions.yaml of DIR: for whom which rule is waived, what is
shown in its place, who answers for it, why, and until when, 90 days at most. Before
anything is written, DIR is read as the server would with the exception in it, and its
never statements are proved. It counts once DIR is published.`,
		Example: `  countersign policy exceptions add ./policies journey --rule risk.high --for usr_01J9Z3KQ4X8M2N6P7R5T9V1W3Y \
    --owner security --reason "The key was lost on a journey." --rung multi --max-age 1h --until 2026-12-04`,
		Args: cobra.ExactArgs(2),
	}
	f := c.Flags()
	f.StringVar(&e.Rule, "rule", "", "id of the policy that is waived")
	f.StringVar(&e.For, "for", "", "usr_… or svc_…, or group: and a name")
	f.StringVar(&e.Owner, "owner", "", "who answers for it")
	f.StringVar(&e.Reason, "reason", "", "why, in words, to those it concerns")
	f.StringVar(&e.Instead.Rung, "rung", "", "what is shown instead: single, multi, phr or phrh")
	f.StringVar(&e.Instead.MaxAge, "max-age", "", "how long ago at most, as 1h")
	f.StringVar(&e.Until, "until", "", "the end: 2026-12-01, or 2026-12-01T12:00:00Z")
	for _, name := range []string{"rule", "for", "owner", "reason", "rung", "until"} {
		_ = c.MarkFlagRequired(name) // they are there
	}
	c.RunE = a.do(func(_ context.Context, args []string) error {
		e.ID = args[1]
		return a.editExceptions(args[0], "added", e.ID, func(text []byte) ([]byte, error) {
			item, err := yaml.Marshal([]trial.Exception{e})
			if err != nil {
				return nil, err
			}
			if len(strings.TrimSpace(string(text))) == 0 {
				text = []byte("exceptions:\n")
			}
			if !strings.HasSuffix(string(text), "\n") {
				text = append(text, '\n')
			}
			for line := range strings.Lines(string(item)) {
				text = append(text, "  "+line...)
			}
			return text, nil
		}, func(was []policy.Exception) ([]policy.Exception, error) {
			if slices.ContainsFunc(was, func(x policy.Exception) bool { return x.ID == e.ID }) {
				return nil, usage("There is an exception %s already.", e.ID)
			}
			one, err := e.Exception()
			if err != nil {
				return nil, usage("The exception cannot be read: %v.", err)
			}
			if one.Until.Sub(a.now()) > policy.MaxException || !a.now().Before(one.Until) {
				return nil, usage("An exception ends within 90 days: %s does not.", e.Until)
			}
			return append(slices.Clone(was), one), nil
		})
	})
	return c
}

func (a *app) policyExceptionEnd() *cobra.Command {
	return &cobra.Command{
		Use:   "end DIR ID",
		Short: "Take an exception out of exceptions.yaml of a directory",
		Long: `Take an exception out of exceptions.yaml of DIR. It ends once DIR is published; what it
made possible until then stays in the records.`,
		Example: "  countersign policy exceptions end ./policies journey",
		Args:    cobra.ExactArgs(2),
		RunE: a.do(func(_ context.Context, args []string) error {
			return a.editExceptions(args[0], "ended", args[1], func(text []byte) ([]byte, error) { return without(text, args[1]), nil },
				func(was []policy.Exception) ([]policy.Exception, error) {
					left := slices.DeleteFunc(slices.Clone(was), func(x policy.Exception) bool { return x.ID == args[1] })
					if len(left) == len(was) {
						return nil, usage("There is no exception %s in %s.", args[1], trial.ExceptionsFile)
					}
					return left, nil
				})
		}),
	}
}

// without is a file of exceptions without one: the lines of its item, which begins
// with its own mark and ends where the next one begins.
func without(text []byte, id string) []byte {
	var out []string
	var item []string
	drop := false
	flush := func() {
		if !drop {
			out = append(out, item...)
		}
		item, drop = nil, false
	}
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "- ") {
			flush()
			trimmed = strings.TrimSpace(trimmed[2:])
		}
		item = append(item, line)
		if name, ok := strings.CutPrefix(trimmed, "id:"); ok {
			name, _, _ = strings.Cut(name, " #")
			drop = drop || strings.Trim(strings.TrimSpace(name), `"'`) == id
		}
	}
	flush()
	if s := strings.Join(out, ""); strings.TrimSpace(s) != "exceptions:" {
		return []byte(s)
	}
	return nil
}

// editExceptions changes the file of exceptions of a directory, if what comes of it is
// exactly what is wanted, can be enforced, and breaks no never statement. Comments and
// layout of the rest stay.
func (a *app) editExceptions(dir, verb, id string, edit func([]byte) ([]byte, error), wanted func([]policy.Exception) ([]policy.Exception, error)) error {
	path := filepath.Join(dir, trial.ExceptionsFile)
	text, err := readPolicyFile(path)
	if _, none := os.Stat(path); errors.Is(none, fs.ErrNotExist) {
		text, err = nil, nil
	}
	if err != nil {
		return err
	}
	was, err := trial.Exceptions(text)
	if err != nil {
		return &failure{exit: exitUsage, code: "exceptions_invalid", message: err.Error()}
	}
	want, err := wanted(was)
	if err != nil {
		return err
	}
	next, err := edit(text)
	if err != nil {
		return err
	}
	if got, err := trial.Exceptions(next); err != nil || !slices.Equal(got, want) {
		return &failure{exit: exitError, code: "exceptions_layout", message: fmt.Sprintf("%s is laid out in a way that cannot be changed here. Change it in an editor.", path)}
	}
	if err := a.enforceable(dir, want); err != nil {
		return err
	}
	if len(next) == 0 {
		err = os.Remove(path)
	} else {
		err = rewrite(path, string(next))
	}
	if err != nil {
		return &failure{exit: exitError, code: "not_written", message: fmt.Sprintf("%s cannot be written: %v.", path, err)}
	}
	if a.json {
		return a.document("policy.exceptions."+verb+"/v1", map[string]any{"id": id, "file": path})
	}
	a.say("The exception %s is %s in %s. It counts once the directory is published: countersign policy publish %s", id, verb, path, dir)
	return nil
}

// enforceable holds a directory against the exceptions that it is about to have.
func (a *app) enforceable(dir string, list []policy.Exception) error {
	b := &bundle{dir: dir}
	if err := b.read(); err != nil {
		return err
	}
	b.source.Exceptions = list
	set, err := policy.Compile(b.source)
	var faults policy.Faults
	if errors.As(err, &faults) {
		return a.faulty(faults)
	}
	if err != nil {
		return err
	}
	for _, f := range b.trials {
		for _, r := range trial.Check(set, f) {
			if r.Bad() {
				return &failure{exit: exitError, code: "policy_floor", message: fmt.Sprintf("With it, %s of %s is %s: %s", r.Name, r.File, r.Result, r.Detail)}
			}
		}
	}
	return nil
}
