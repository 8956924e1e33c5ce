package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// webhookItem is a webhook as the server lists it.
type webhookItem struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	URL    string   `json:"url"`
	Events []string `json:"events"`
	State  string   `json:"state"`
	Secret string   `json:"secret"`
}

func (a *app) webhook() *cobra.Command {
	return group("webhook", "Register and manage receivers of events",
		a.webhookList(), a.webhookAdd(), a.webhookRotate(),
		a.webhookVerb("enable", "Switch a webhook on: it goes on from where it was", "enabled"),
		a.webhookVerb("disable", "Switch a webhook off", "disabled"),
		a.webhookRemove())
}

func (a *app) webhookList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List webhooks", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/webhooks", "webhook.list/v1", []string{"ID", "NAME", "URL", "STATE", "EVENTS"}, func(w webhookItem) []string {
			events := strings.Join(w.Events, " ")
			if events == "" {
				events = "(what people and administrators are told)"
			}
			return []string{w.ID, w.Name, w.URL, w.State, events}
		})
	})}
}

func (a *app) webhookAdd() *cobra.Command {
	var events []string
	c := &cobra.Command{
		Use: "add NAME URL", Short: "Register a webhook and print its secret, this once",
		Example: "  countersign webhook add siem https://siem.example.com/countersign --event factor.* --event alert.*",
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().StringArrayVar(&events, "event", nil, "kind of event, or all of a noun as factor.*; may be repeated")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		body := map[string]any{"name": args[0], "url": args[1]}
		if len(events) > 0 {
			body["events"] = events
		}
		r, err := x.do(ctx, http.MethodPost, "/webhooks", body, "")
		if err != nil {
			return err
		}
		return a.toldSecret(r, "webhook.add/v1", "The secret is told only now. Give it to the receiver, which verifies events with it:")
	})
	return c
}

// toldSecret prints a webhook's secret that was made just now, on standard output
// and nothing else there.
func (a *app) toldSecret(r reply, schema, words string) error {
	var w webhookItem
	if err := json.Unmarshal(r.body, &w); err != nil || w.Secret == "" {
		return &failure{exit: exitError, code: "bad_answer", message: "The server's answer has no secret."}
	}
	if a.json {
		return a.document(schema, map[string]any{"id": w.ID, "secret": w.Secret})
	}
	a.say("%s", words)
	_, err := fmt.Fprintln(a.out, clean(w.Secret))
	return err
}

func (a *app) webhookRotate() *cobra.Command {
	return &cobra.Command{
		Use: "rotate WEBHOOK", Short: "Give a webhook another secret; both sign for a day", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			x, err := a.api()
			if err != nil {
				return err
			}
			r, err := x.do(ctx, http.MethodPost, "/webhooks/"+url.PathEscape(args[0])+"/secret", nil, "")
			if err != nil {
				return err
			}
			return a.toldSecret(r, "webhook.rotate/v1", "The secret is told only now. The one before it signs, too, for a day:")
		}),
	}
}

// webhookVerb is enable and disable.
func (a *app) webhookVerb(verb, short, done string) *cobra.Command {
	return a.on(verb+" WEBHOOK", short, "webhook."+verb+"/v1", done, func(ctx context.Context, x *api, id string) error {
		_, err := x.do(ctx, http.MethodPost, "/webhooks/"+url.PathEscape(id)+"/"+verb, nil, "")
		return err
	})
}

func (a *app) webhookRemove() *cobra.Command {
	return a.on("remove WEBHOOK", "Remove a webhook, with what it has not been told", "webhook.remove/v1", "removed", func(ctx context.Context, x *api, id string) error {
		r, err := x.do(ctx, http.MethodGet, "/webhooks/"+url.PathEscape(id), nil, "")
		if err != nil {
			return err
		}
		_, err = x.do(ctx, http.MethodDelete, "/webhooks/"+url.PathEscape(id), nil, r.etag)
		return err
	})
}

// on is a command that does one thing to what its argument names.
func (a *app) on(use, short, schema, done string, do func(context.Context, *api, string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		if err := do(ctx, x, args[0]); err != nil {
			return err
		}
		if a.json {
			return a.document(schema, map[string]any{"id": args[0]})
		}
		a.say("%s is %s.", clean(args[0]), done)
		return nil
	})}
}

// letterItem is a dead letter as the server lists it.
type letterItem struct {
	ID      string    `json:"id"`
	Channel string    `json:"channel"`
	Record  string    `json:"record"`
	Person  string    `json:"person"`
	Why     string    `json:"why"`
	MadeAt  time.Time `json:"made_at"`
	Tries   int       `json:"tries"`
}

func (a *app) delivery() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List notices that could not be delivered", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/deliveries", "delivery.list/v1", []string{"ID", "CHANNEL", "RECORD", "PERSON", "MADE", "TRIES", "WHY"}, func(d letterItem) []string {
			return []string{d.ID, d.Channel, d.Record, d.Person, since(a.now(), d.MadeAt), strconv.Itoa(d.Tries), d.Why}
		})
	})}
	return group("delivery", "See notices that could not be delivered, and send them again", list,
		a.on("resend DELIVERY", "Have a notice tried again, from the beginning", "delivery.resend/v1", "tried again", func(ctx context.Context, x *api, id string) error {
			_, err := x.do(ctx, http.MethodPost, "/deliveries/"+url.PathEscape(id)+"/resend", nil, "")
			return err
		}),
		a.on("discard DELIVERY", "Forget a notice that could not be delivered", "delivery.discard/v1", "discarded", func(ctx context.Context, x *api, id string) error {
			_, err := x.do(ctx, http.MethodDelete, "/deliveries/"+url.PathEscape(id), nil, "")
			return err
		}))
}

// alertItem is an alert as the server lists it.
type alertItem struct {
	Name     string    `json:"name"`
	Severity string    `json:"severity"`
	Title    string    `json:"title"`
	Detail   string    `json:"detail"`
	Next     string    `json:"next"`
	RaisedAt time.Time `json:"raised_at"`
}

func (a *app) alert() *cobra.Command {
	return group("alert", "See what stands and needs a look", &cobra.Command{
		Use: "list", Short: "List the alerts about states that have not ended", Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			x, err := a.api()
			if err != nil {
				return err
			}
			raw, all, err := items[alertItem](ctx, x, "/alerts")
			if err != nil {
				return err
			}
			if a.json {
				return a.document("alert.list/v1", map[string]any{"items": raw})
			}
			if len(all) == 0 {
				a.say("Nothing stands.")
				return nil
			}
			var rows [][]string
			for _, x := range all {
				rows = append(rows, []string{x.Name, x.Severity, since(a.now(), x.RaisedAt), x.Title, x.Next})
			}
			a.table([]string{"NAME", "SEVERITY", "SINCE", "WHAT", "NEXT"}, rows)
			return nil
		}),
	})
}

// maxLeak is the longest value that can be reported.
const maxLeak = 16 << 10

func (a *app) leak() *cobra.Command {
	var where string
	c := &cobra.Command{
		Use: "report", Short: "Report a leaked token or secret, read from standard input",
		Long: `Report a token or secret of the deployment that was found where it should not be.
It is read from standard input, so that it stands in no history and no list of
processes. What can be ended at once is, and administrators are alerted.`,
		Example: "  countersign leak report --where \"build log of web 812\" < found.txt",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&where, "where", "", "where it was found, in words")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		text, err := io.ReadAll(io.LimitReader(a.in, maxLeak+1))
		if err != nil || len(text) > maxLeak || strings.TrimSpace(string(text)) == "" {
			return usage("Give one token or secret on standard input.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		body := map[string]any{"secret": strings.TrimSpace(string(text))}
		if where != "" {
			body["where"] = where
		}
		r, err := x.do(ctx, http.MethodPost, "/leaks", body, "")
		if err != nil {
			return err
		}
		return a.reported(r)
	})
	return group("leak", "Report leaked tokens and secrets", c)
}

func (a *app) reported(r reply) error {
	var out struct {
		Known  bool   `json:"known"`
		What   string `json:"what"`
		Done   string `json:"done"`
		Next   string `json:"next"`
		Record string `json:"record"`
	}
	if err := json.Unmarshal(r.body, &out); err != nil {
		return &failure{exit: exitError, code: "bad_answer", message: "The server's answer cannot be read."}
	}
	if a.json {
		return a.document("leak.report/v1", map[string]any{"known": out.Known, "what": out.What, "done": out.Done, "next": out.Next, "record": out.Record})
	}
	if !out.Known {
		a.say("That is nothing of this deployment, or worth nothing any more.")
		return nil
	}
	a.say("It is %s.", clean(out.What))
	if out.Done != "" {
		a.say("Done: %s.", clean(out.Done))
	}
	if out.Next != "" {
		a.say("Next: %s", clean(out.Next))
	}
	return nil
}
