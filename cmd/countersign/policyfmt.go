package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/file"
	"github.com/countersign-dev/countersign/internal/policy/layout"
)

func (a *app) policyFmt() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "fmt PATH...",
		Short: "Give Cedar files their one layout",
		Long: `Give Cedar files, or the *.cedar files of directories, their one layout: the order
of annotations, where lines break, how far they are indented. What a file says, and
every comment in it, stays. The names of files that were changed are printed; with
- for a path, what stands on standard input is printed instead.
With --check nothing is written: files that are not laid out are named, and the exit
code is 1 if there are any.`,
		Example: "  countersign policy fmt ./policies\n  countersign policy fmt --check ./policies",
		Args:    cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVar(&check, "check", false, "change nothing, and fail if a file is not laid out")
	c.RunE = a.do(func(_ context.Context, args []string) error {
		if len(args) == 1 && args[0] == "-" && !check {
			return a.layOutInput()
		}
		files, err := cedarFiles(args)
		if err != nil {
			return err
		}
		return a.layOut(files, check)
	})
	return c
}

func (a *app) layOutInput() error {
	text, err := io.ReadAll(io.LimitReader(a.in, maxPolicyFile+1))
	if err != nil || len(text) > maxPolicyFile {
		return usage("Standard input cannot be read, or is longer than %d bytes.", maxPolicyFile)
	}
	out, err := layout.Format("standard input", string(text))
	if err != nil {
		return notCedar(err)
	}
	if a.json {
		return a.document("policy.fmt/v1", map[string]any{"text": out})
	}
	_, err = io.WriteString(a.out, out)
	return err
}

func notCedar(err error) error {
	return &failure{exit: exitError, code: "policy_invalid", message: err.Error() + "."}
}

// cedarFiles are files, and the Cedar files in directories.
func cedarFiles(args []string) ([]string, error) {
	var files []string
	for _, path := range args {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, usage("The path cannot be read: %v.", err)
		case !info.IsDir():
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, usage("The directory cannot be read: %v.", err)
		}
		for _, e := range entries {
			if !e.IsDir() && strings.HasSuffix(e.Name(), ".cedar") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	}
	return files, nil
}

// layOut lays out files. All are read first: either every one is Cedar, or none
// is written.
func (a *app) layOut(files []string, check bool) error {
	changed, texts := []string{}, map[string]string{}
	for _, path := range files {
		text, err := readPolicyFile(path)
		if err != nil {
			return err
		}
		out, err := layout.Format(path, string(text))
		if err != nil {
			return notCedar(err)
		}
		if out != string(text) {
			changed = append(changed, path)
			texts[path] = out
		}
	}
	if !check {
		for _, path := range changed {
			if err := rewrite(path, texts[path]); err != nil {
				return usage("The file cannot be written: %v.", err)
			}
		}
	}
	if a.json {
		if err := a.document("policy.fmt/v1", map[string]any{"files": len(files), "changed": changed, "written": !check}); err != nil {
			return err
		}
	} else {
		for _, path := range changed {
			fmt.Fprintln(a.out, clean(path))
		}
	}
	if check && len(changed) > 0 {
		return &failure{
			exit: exitError, code: "policy_layout", message: fmt.Sprintf("%d of %d files are not laid out.", len(changed), len(files)),
			fix: "countersign policy fmt " + strings.Join(changed, " "),
		}
	}
	return nil
}

// rewrite replaces a file whole or not at all, or makes it: it is somebody's work.
func rewrite(path, text string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(path, []byte(text), 0o644) // there is nothing to lose yet
	}
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return file.Replace(path, []byte(text), info.Mode())
}
