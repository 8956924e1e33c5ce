package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// secretItem is a client's secret as the server lists it, and as it tells it once.
type secretItem struct {
	Name   string     `json:"name"`
	MadeAt *time.Time `json:"made_at,omitempty"`
	EndsAt *time.Time `json:"ends_at,omitempty"`
	Secret string     `json:"client_secret,omitempty"`
}

func (a *app) clientCommand() *cobra.Command {
	return group("client", "List and end clients, say which may be used that nobody registered, and what they authenticate with",
		a.clientList(), a.clientEnd(), a.clientAdmit(), a.clientRules(),
		a.clientSwitch("allow", "allowed", "Take documents of a domain, or of *.domain, where only listed ones are taken", "is allowed"),
		a.clientSwitch("trust", "trusted", "Allow a domain and remember what people agreed to with its apps", "is trusted"),
		a.clientSwitch("block", "blocked", "Refuse the apps of a domain, or of a group that registers itself; what they hold stands still", "is blocked"),
		a.clientSwitch("forget", "none", "Take back what was said of a domain or group", "is like any other again"),
		a.clientPin(), a.clientUnpin(), a.clientPinned(),
		group("secret", "Give a client another secret, list them by name, retire the earlier one",
			a.secretAdd(), a.secretList(), a.secretRetire()))
}

func secretsOf(clientID string) string { return "/clients/" + url.PathEscape(clientID) + "/secrets" }

func (a *app) secretAdd() *cobra.Command {
	var overlap time.Duration
	c := &cobra.Command{
		Use: "add CLIENT", Short: "Give a client another secret and print it, this once; the earlier one works on for a while",
		Example: "  countersign client secret add nightly --overlap 72h", Args: cobra.ExactArgs(1),
	}
	c.Flags().DurationVar(&overlap, "overlap", 24*time.Hour, "how long the earlier secret works on, 720h at most")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if overlap < time.Second || overlap > 720*time.Hour {
			return usage("--overlap is between 1s and 720h.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		r, err := x.do(ctx, http.MethodPost, secretsOf(args[0]), map[string]any{"overlap": int64(overlap / time.Second)}, "")
		if err != nil {
			return err
		}
		var s secretItem
		if err := json.Unmarshal(r.body, &s); err != nil || s.Secret == "" {
			return &failure{exit: exitError, code: "bad_answer", message: "The server's answer has no secret."}
		}
		if a.json {
			return a.document("client.secret.add/v1", map[string]any{"client_id": args[0], "name": s.Name, "client_secret": s.Secret})
		}
		a.say("The secret is told only now. The earlier one works for %s more; see: countersign client secret list %s", span(overlap), clean(args[0]))
		_, err = fmt.Fprintln(a.out, clean(s.Secret))
		return err
	})
	return c
}

func (a *app) secretList() *cobra.Command {
	return &cobra.Command{Use: "list CLIENT", Short: "List a client's secrets that work", Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		raw, all, err := items[secretItem](ctx, x, secretsOf(args[0]))
		if err != nil {
			return err
		}
		if a.json {
			return a.document("client.secret.list/v1", map[string]any{"client_id": args[0], "items": raw})
		}
		var rows [][]string
		for _, s := range all {
			row := []string{s.Name, "(not known)", "when another takes its place"}
			if s.MadeAt != nil {
				row[1] = ago(a.now(), *s.MadeAt)
			}
			if s.EndsAt != nil {
				row[2] = s.EndsAt.Local().Format(time.DateTime)
			}
			rows = append(rows, row)
		}
		a.list([]string{"NAME", "MADE", "ENDS"}, rows)
		return nil
	})}
}

func (a *app) secretRetire() *cobra.Command {
	return &cobra.Command{
		Use: "retire CLIENT NAME", Short: "Stop the earlier of a client's two secrets now", Args: cobra.ExactArgs(2),
		Long: `Stop the earlier of a client's two secrets now. Its name is in the list; it is the
first 12 hexadecimal digits of the SHA-256 of the secret.`,
		RunE: a.do(func(ctx context.Context, args []string) error {
			x, err := a.api()
			if err != nil {
				return err
			}
			if _, err := x.do(ctx, http.MethodDelete, secretsOf(args[0])+"/"+url.PathEscape(args[1]), nil, ""); err != nil {
				return err
			}
			if a.json {
				return a.document("client.secret.retire/v1", map[string]any{"client_id": args[0], "name": args[1]})
			}
			a.say("The secret %s of %s does not work any more.", clean(args[1]), clean(args[0]))
			return nil
		}),
	}
}
