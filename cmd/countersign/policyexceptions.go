package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/internal/policy"
)

func (a *app) policyExceptions() *cobra.Command {
	c := group("exceptions", "List the exceptions from the policies in force, and write those of a directory",
		a.policyExceptionAdd(), a.policyExceptionEnd(), a.policyExceptionList())
	c.Args, c.RunE = cobra.NoArgs, a.policyExceptionList().RunE
	return c
}

func (a *app) policyExceptionList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the exceptions from the policies in force",
		Long: `List the exceptions from the policies in force: for whom which rule is waived, what
is shown in its place, who answers for it, why, and until when. They are written in
exceptions.yaml beside the policies, and published with them.`,
		Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			x, v, err := a.inForce(ctx)
			if err != nil {
				return err
			}
			if a.json {
				list := v.Exceptions
				if list == nil {
					list = []policy.Exception{}
				}
				return a.document("policy.exceptions/v1", map[string]any{"version": v.Version, "items": list})
			}
			rows := [][]string{}
			names := map[string]string{}
			for i := range v.Exceptions {
				e := &v.Exceptions[i]
				end := e.Until.Format(time.DateTime)
				if !a.now().Before(e.Until) {
					end += " (over)"
				}
				rows = append(rows, []string{e.ID, e.Rule, x.nameOf(ctx, names, e.For), policy.Words(e.Instead()), end, e.Owner, e.Reason})
			}
			a.list([]string{"ID", "WAIVES", "FOR", "INSTEAD", "UNTIL", "OWNER", "REASON"}, rows)
			return nil
		}),
	}
}
