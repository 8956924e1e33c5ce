package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// personItem is a person as the server lists them.
type personItem struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Username string   `json:"username"`
	Email    string   `json:"email"`
	Groups   []string `json:"groups"`
	Disabled bool     `json:"disabled"`
	State    string   `json:"state"`
}

func (p personItem) state() string {
	switch {
	case p.State != "":
		return p.State
	case p.Disabled:
		return "disabled"
	}
	return "active"
}

func (a *app) person() *cobra.Command {
	return group("person", "Invite, import, list, help, disable and enable people",
		a.personInvite(), a.personImport(), a.personList(), a.personDevice(), a.personRecover(), a.personPass(),
		a.personSwitch("disable", "Disable a person: their sessions and everything below end at once"),
		a.personSwitch("enable", "Let a disabled person sign in again"))
}

func (a *app) personInvite() *cobra.Command {
	var email, username string
	var groups []string
	c := &cobra.Command{
		Use:     "invite NAME",
		Short:   "Print a link with which a person joins",
		Example: "  countersign person invite \"Sam Doe\" --email sam@example.com",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&email, "email", "", "address of the person")
	c.Flags().StringVar(&username, "username", "", "short name of the person")
	c.Flags().StringSliceVar(&groups, "group", nil, "groups to join")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if strings.TrimSpace(args[0]) == "" {
			return usage("A person has a name.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		body := map[string]any{"name": args[0]}
		if email != "" {
			body["email"] = email
		}
		if username != "" {
			body["username"] = username
		}
		if len(groups) > 0 {
			body["groups"] = groups
		}
		r, err := x.do(ctx, http.MethodPost, "/invitations", body, "")
		if err != nil {
			return err
		}
		var made struct {
			ID        string    `json:"id"`
			URL       string    `json:"url"`
			ExpiresAt time.Time `json:"expires_at"`
		}
		if err := json.Unmarshal(r.body, &made); err != nil || made.URL == "" {
			return &failure{exit: exitError, code: "bad_answer", message: "The server's answer has no link."}
		}
		if a.json {
			return a.document("person.invite/v1", map[string]any{"id": made.ID, "url": made.URL, "expires_at": made.ExpiresAt})
		}
		a.say("Give this link to %s only. It works once, for %s:", clean(args[0]), span(time.Until(made.ExpiresAt)))
		_, err = fmt.Fprintln(a.out, clean(made.URL))
		return err
	})
	return c
}

func (a *app) personList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List people", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/people", "person.list/v1", []string{"ID", "NAME", "USERNAME", "STATE", "GROUPS"}, func(p personItem) []string {
			return []string{p.ID, p.Name, p.Username, p.state(), strings.Join(p.Groups, " ")}
		})
	})}
}

// personSwitch is disable and enable.
func (a *app) personSwitch(verb, short string) *cobra.Command {
	return &cobra.Command{Use: verb + " PERSON", Short: short, Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		id, err := x.personID(ctx, args[0])
		if err != nil {
			return err
		}
		r, err := x.do(ctx, http.MethodPost, "/people/"+url.PathEscape(id)+"/"+verb, nil, "")
		if err != nil {
			return err
		}
		var now struct {
			Marked int `json:"marked_devices"`
		}
		_ = json.Unmarshal(r.body, &now) // a hint, where the server gives one
		if a.json {
			return a.document("person."+verb+"/v1", map[string]any{"id": id, "marked_devices": now.Marked})
		}
		a.say("%s is %sd.", clean(args[0]), verb)
		if now.Marked > 0 {
			a.say("Devices that they called managed stay so. Look at them: countersign person device marked --by %s", clean(id))
		}
		return nil
	})}
}

// personID finds a person by id or by the exact username.
func (x *api) personID(ctx context.Context, s string) (string, error) {
	if strings.HasPrefix(s, "usr_") {
		return s, nil
	}
	_, people, err := items[personItem](ctx, x, "/people")
	if err != nil {
		return "", err
	}
	for _, p := range people {
		if p.Username != "" && p.Username == s {
			return p.ID, nil
		}
	}
	return "", &failure{exit: exitError, code: "not_found", message: "Nobody has the username " + s + ".", fix: "countersign person list"}
}

// sessionItem is a session as the server lists one's own.
type sessionItem struct {
	ID         string    `json:"id"`
	Device     string    `json:"device"`
	ACR        string    `json:"acr"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	Current    bool      `json:"current"`
}

func (a *app) session() *cobra.Command {
	listing := &cobra.Command{Use: "list", Short: "List your sessions", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/sessions", "session.list/v1", []string{"ID", "DEVICE", "ASSURANCE", "BEGAN", "LAST SEEN", ""}, func(s sessionItem) []string {
			here := ""
			if s.Current {
				here = "this one"
			}
			return []string{s.ID, s.Device, s.ACR, since(a.now(), s.CreatedAt), since(a.now(), s.LastSeenAt), here}
		})
	})}
	end := &cobra.Command{
		Use: "end SESSION", Short: "End a session: what was given out below it stops working at once",
		Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
			x, err := a.api()
			if err != nil {
				return err
			}
			if _, err := x.do(ctx, http.MethodPost, "/sessions/"+url.PathEscape(args[0])+"/end", nil, ""); err != nil {
				return err
			}
			if a.json {
				return a.document("session.end/v1", map[string]any{"id": args[0]})
			}
			a.say("Session %s has ended.", clean(args[0]))
			return nil
		}),
	}
	return group("session", "List and end your sessions", listing, end)
}

func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return ago(now, t)
}
