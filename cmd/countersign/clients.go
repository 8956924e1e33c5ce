package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// clientItem is a client as the server lists it.
type clientItem struct {
	ID        string `json:"id"`
	ClientID  string `json:"client_id"`
	Name      string `json:"name"`
	ManagedBy string `json:"managed_by"`
	Group     string `json:"group"`
	State     string `json:"state"`
}

// known is how the server came to know it.
func (c clientItem) known() string {
	switch c.ManagedBy {
	case "document":
		return "by its domain"
	case "dynamic":
		return "by itself"
	}
	return "registered"
}

func (a *app) clientList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List clients, and how the server came to know them", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/clients", "client.list/v1", []string{"ID", "NAME", "KNOWN", "GROUP", "STATE"}, func(c clientItem) []string {
			return []string{c.ID, c.Name, c.known(), c.Group, c.State}
		})
	})}
}

func (a *app) clientEnd() *cobra.Command {
	return &cobra.Command{Use: "end CLIENT", Short: "End a client and everything it holds, for ever", Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		if _, err := x.do(ctx, http.MethodDelete, "/clients/"+url.PathEscape(args[0]), nil, ""); err != nil {
			return err
		}
		if a.json {
			return a.document("client.end/v1", map[string]any{"client": args[0]})
		}
		a.say("%s has ended.", clean(args[0]))
		return nil
	})}
}

// admission is what may be used that nobody registered, as the server says it.
type admission struct {
	Documents    string   `json:"metadata_documents"`
	Registration bool     `json:"dynamic_registration"`
	Resources    []string `json:"resources"`
	Scopes       []string `json:"scopes"`
}

func (a *app) clientAdmit() *cobra.Command {
	var documents, registration string
	var resources, scopes []string
	c := &cobra.Command{
		Use: "admit", Short: "Say, or with a flag change, which clients may be used that nobody registered", Args: cobra.NoArgs,
		Example: "  countersign client admit --documents listed --resource https://mcp.example.com --scope '*'",
	}
	f := c.Flags()
	f.StringVar(&documents, "documents", "", "whose metadata documents are taken: off, listed or any")
	f.StringVar(&registration, "registration", "", "whether clients may register themselves: on or off")
	f.StringSliceVar(&resources, "resource", nil, "resources that they may ask tokens for; '*' is any")
	f.StringSliceVar(&scopes, "scope", nil, "scopes that they may ask for; '*' is any")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		if registration != "" && registration != "on" && registration != "off" {
			return usage("--registration is on or off.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		r, err := x.do(ctx, http.MethodGet, "/client-admission", nil, "")
		if err != nil {
			return err
		}
		var now admission
		if err := json.Unmarshal(r.body, &now); err != nil {
			return &failure{exit: exitError, code: "bad_answer", message: "The server's answer cannot be read."}
		}
		if f.Changed("documents") || f.Changed("registration") || f.Changed("resource") || f.Changed("scope") {
			if documents != "" {
				now.Documents = documents
			}
			if registration != "" {
				now.Registration = registration == "on"
			}
			if f.Changed("resource") {
				now.Resources = resources
			}
			if f.Changed("scope") {
				now.Scopes = scopes
			}
			if _, err := x.do(ctx, http.MethodPut, "/client-admission", now, ""); err != nil {
				return err
			}
		}
		if a.json {
			return a.document("client.admit/v1", map[string]any{"metadata_documents": now.Documents, "dynamic_registration": now.Registration, "resources": now.Resources, "scopes": now.Scopes})
		}
		on := map[bool]string{true: "on", false: "off"}
		a.table([]string{"DOCUMENTS", "REGISTRATION", "RESOURCES", "SCOPES"}, [][]string{{now.Documents, on[now.Registration], strings.Join(now.Resources, " "), strings.Join(now.Scopes, " ")}})
		return nil
	})
	return c
}

// clientSwitch is one of allow, trust, block and forget.
func (a *app) clientSwitch(use, trust, short, said string) *cobra.Command {
	return &cobra.Command{Use: use + " GROUP", Short: short, Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		kind := "domain"
		if !strings.Contains(args[0], ".") && args[0] != "localhost" {
			kind = "registration"
		}
		if _, err := x.do(ctx, http.MethodPut, "/client-rules", map[string]any{"kind": kind, "group": args[0], "trust": trust}, ""); err != nil {
			return err
		}
		if a.json {
			return a.document("client."+use+"/v1", map[string]any{"kind": kind, "group": args[0], "trust": trust})
		}
		a.say("%s %s.", clean(args[0]), said)
		return nil
	})}
}

func (a *app) clientRules() *cobra.Command {
	return &cobra.Command{Use: "rules", Short: "List what is said of domains and groups of clients", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/client-rules", "client.rules/v1", []string{"GROUP", "KIND", "TRUST"}, func(r struct{ Group, Kind, Trust string }) []string {
			return []string{r.Group, r.Kind, r.Trust}
		})
	})}
}

// maxDocument is the longest document of a client, in bytes.
const maxDocument = 5 << 10

func (a *app) clientPin() *cobra.Command {
	return &cobra.Command{
		Use: "pin FILE", Short: "Keep a client's metadata document on the server, so that it is not fetched", Args: cobra.ExactArgs(1),
		Example: "  countersign client pin editor.json",
		RunE: a.do(func(ctx context.Context, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return usage("The file cannot be read: %v.", err)
			}
			if len(text) > maxDocument || !json.Valid(text) {
				return usage("%s is no metadata document: JSON of at most 5 KB.", args[0])
			}
			x, err := a.api()
			if err != nil {
				return err
			}
			r, err := x.do(ctx, http.MethodPut, "/client-documents", map[string]any{"document": json.RawMessage(text)}, "")
			if err != nil {
				return err
			}
			var made struct {
				ClientID string `json:"client_id"`
				Name     string `json:"name"`
			}
			if err := json.Unmarshal(r.body, &made); err != nil {
				return &failure{exit: exitError, code: "bad_answer", message: "The server's answer cannot be read."}
			}
			if a.json {
				return a.document("client.pin/v1", map[string]any{"client_id": made.ClientID, "name": made.Name})
			}
			a.say("The document of %s (%s) is pinned.", clean(made.Name), clean(made.ClientID))
			return nil
		}),
	}
}

func (a *app) clientUnpin() *cobra.Command {
	return &cobra.Command{Use: "unpin CLIENT_ID", Short: "Let the server fetch a client's document again", Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		if _, err := x.do(ctx, http.MethodDelete, "/client-documents?client_id="+url.QueryEscape(args[0]), nil, ""); err != nil {
			return err
		}
		if a.json {
			return a.document("client.unpin/v1", map[string]any{"client_id": args[0]})
		}
		a.say("The document of %s is fetched from now on, where that is allowed.", clean(args[0]))
		return nil
	})}
}

func (a *app) clientPinned() *cobra.Command {
	return &cobra.Command{Use: "pinned", Short: "List the pinned documents", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/client-documents", "client.pinned/v1", []string{"CLIENT_ID", "NAME"}, func(d struct {
			ClientID string `json:"client_id"`
			Name     string `json:"name"`
		},
		) []string {
			return []string{d.ClientID, d.Name}
		})
	})}
}
