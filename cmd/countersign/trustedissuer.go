package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// wantIssuer is an issuer whose assertions are taken as grants; it is found by its
// iss. Which of its subjects is which person is not in a file: see issuer link.
type wantIssuer struct {
	Issuer      string             `yaml:"issuer" json:"issuer"`
	Name        *string            `yaml:"name" json:"name,omitempty"`
	JWKS        map[string]any     `yaml:"jwks" json:"jwks,omitempty"`
	JWKSURI     *string            `yaml:"jwks_uri" json:"jwks_uri,omitempty"`
	Algorithms  *[]string          `yaml:"algorithms" json:"algorithms,omitempty"`
	Profiles    *[]string          `yaml:"profiles" json:"profiles,omitempty"`
	Endpoint    *bool              `yaml:"token_endpoint_audience" json:"token_endpoint_audience,omitempty"`
	Clients     *[]string          `yaml:"clients" json:"clients,omitempty"`
	Resources   *[]string          `yaml:"resources" json:"resources,omitempty"`
	Scopes      *[]string          `yaml:"scopes" json:"scopes,omitempty"`
	MaxLifetime *int64             `yaml:"max_lifetime" json:"max_lifetime,omitempty"` // seconds
	Replay      *string            `yaml:"replay" json:"replay,omitempty"`
	ACR         *map[string]string `yaml:"acr" json:"acr,omitempty"`
}

// writableIssuer are the members that a PUT carries.
var writableIssuer = []string{
	"issuer", "name", "jwks", "jwks_uri", "algorithms", "profiles", "token_endpoint_audience", "clients", "resources", "scopes",
	"max_lifetime", "replay", "acr",
}

// checkIssuers wants a name for each of a file's issuers, and no two alike.
func checkIssuers(list []wantIssuer) error {
	seen := map[string]bool{}
	for n, i := range list {
		if i.Issuer == "" {
			return usage("trusted_issuers[%d] has no issuer.", n)
		}
		if seen[i.Issuer] {
			return usage("The trusted issuer %s is in the file twice.", i.Issuer)
		}
		seen[i.Issuer] = true
	}
	return nil
}

// planIssuers finds the file's trusted issuers by their iss.
func (x *api) planIssuers(ctx context.Context, m *manifest) (plan []*change, err error) {
	if len(m.Issuers) == 0 {
		return nil, nil
	}
	_, all, err := items[object](ctx, x, "/trusted-issuers")
	if err != nil {
		return nil, err
	}
	for _, i := range m.Issuers {
		c := &change{Kind: "trusted-issuer", Name: i.Issuer, want: fields(i)}
		if have := find(all, "issuer", i.Issuer); have != nil {
			id, _ := have["id"].(string)
			c.path = "/trusted-issuers/" + url.PathEscape(id)
		}
		plan = append(plan, c)
	}
	return plan, nil
}

// issuerItem is a trusted issuer as the server lists it.
type issuerItem struct {
	ID        string   `json:"id"`
	Issuer    string   `json:"issuer"`
	Name      string   `json:"name"`
	Profiles  []string `json:"profiles"`
	Resources []string `json:"resources"`
}

// subjectItem is a subject of an issuer, and who that is.
type subjectItem struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Tenant  string `json:"tenant,omitempty"`
	Person  string `json:"person"`
}

func (a *app) issuerCommand() *cobra.Command {
	return group("issuer", "Say which person a subject of a trusted issuer is; apply makes the issuers",
		a.issuerList(), a.issuerSubjects(), a.issuerLink(), a.issuerUnlink(), a.issuerRemove())
}

func (a *app) issuerList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the issuers whose assertions are taken", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/trusted-issuers", "issuer.list/v1", []string{"ISSUER", "NAME", "FOR", "RESOURCES"}, func(i issuerItem) []string {
			return []string{i.Issuer, i.Name, strings.Join(i.Profiles, " "), strings.Join(i.Resources, " ")}
		})
	})}
}

// trusted finds an issuer by its iss or id.
func (x *api) trusted(ctx context.Context, name string) (issuerItem, error) {
	_, all, err := items[issuerItem](ctx, x, "/trusted-issuers")
	if err != nil {
		return issuerItem{}, err
	}
	for _, i := range all {
		if i.Issuer == name || i.ID == name {
			return i, nil
		}
	}
	return issuerItem{}, &failure{exit: exitError, code: "issuer_not_found", message: "There is no trusted issuer " + clean(name) + ".", fix: "countersign issuer list"}
}

// trusted opens the API and finds a trusted issuer there.
func (a *app) trusted(ctx context.Context, name string) (*api, issuerItem, error) {
	x, err := a.api()
	if err != nil {
		return nil, issuerItem{}, err
	}
	i, err := x.trusted(ctx, name)
	return x, i, err
}

func subjectsOf(i issuerItem) string {
	return "/trusted-issuers/" + url.PathEscape(i.ID) + "/subjects"
}

func (a *app) issuerSubjects() *cobra.Command {
	return &cobra.Command{Use: "subjects ISSUER", Short: "List which of an issuer's subjects is which person", Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, i, err := a.trusted(ctx, args[0])
		if err != nil {
			return err
		}
		raw, all, err := items[subjectItem](ctx, x, subjectsOf(i))
		if err != nil {
			return err
		}
		if a.json {
			return a.document("issuer.subjects/v1", map[string]any{"issuer": i.Issuer, "items": raw})
		}
		var rows [][]string
		for _, s := range all {
			rows = append(rows, []string{s.Subject, s.Tenant, s.Person, s.ID})
		}
		a.list([]string{"SUBJECT", "TENANT", "PERSON", "ID"}, rows)
		return nil
	})}
}

func (a *app) issuerLink() *cobra.Command {
	var tenant string
	c := &cobra.Command{
		Use: "link ISSUER SUBJECT PERSON", Short: "Say which person a subject of an issuer is", Args: cobra.ExactArgs(3),
		Long: `Say which person a subject of an issuer is. From then on apps can act for that
person with an assertion of the issuer, within what the issuer is trusted with. The
person is told.`,
		Example: "  countersign issuer link https://idp.example.com 8f14e45f dana",
	}
	c.Flags().StringVar(&tenant, "tenant", "", "the tenant that the issuer's assertions say")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		x, i, err := a.trusted(ctx, args[0])
		if err != nil {
			return err
		}
		body := map[string]any{"subject": args[1], "person": args[2]}
		if tenant != "" {
			body["tenant"] = tenant
		}
		if _, err := x.do(ctx, http.MethodPost, subjectsOf(i), body, ""); err != nil {
			return err
		}
		if a.json {
			return a.document("issuer.link/v1", map[string]any{"issuer": i.Issuer, "subject": args[1], "person": args[2]})
		}
		a.say("%s of %s is %s from now on.", clean(args[1]), clean(i.Issuer), clean(args[2]))
		return nil
	})
	return c
}

func (a *app) issuerUnlink() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "unlink ISSUER SUBJECT", Short: "End that a subject of an issuer is somebody here, with what was given by it", Args: cobra.ExactArgs(2)}
	c.Flags().StringVar(&tenant, "tenant", "", "the tenant that the issuer's assertions say")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		x, i, err := a.trusted(ctx, args[0])
		if err != nil {
			return err
		}
		_, all, err := items[subjectItem](ctx, x, subjectsOf(i))
		if err != nil {
			return err
		}
		for _, s := range all {
			if s.Subject != args[1] || s.Tenant != tenant {
				continue
			}
			if _, err := x.do(ctx, http.MethodDelete, subjectsOf(i)+"/"+url.PathEscape(s.ID), nil, ""); err != nil {
				return err
			}
			if a.json {
				return a.document("issuer.unlink/v1", map[string]any{"issuer": i.Issuer, "subject": s.Subject, "person": s.Person})
			}
			a.say("%s of %s is nobody here any more.", clean(s.Subject), clean(i.Issuer))
			return nil
		}
		return &failure{exit: exitError, code: "subject_not_found", message: "There is no such subject.", fix: "countersign issuer subjects " + args[0]}
	})
	return c
}

func (a *app) issuerRemove() *cobra.Command {
	var yes bool
	c := &cobra.Command{Use: "remove ISSUER", Short: "Trust an issuer no more: what was given at its word ends", Args: cobra.ExactArgs(1)}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		x, i, err := a.trusted(ctx, args[0])
		if err != nil {
			return err
		}
		if err := a.agreed(yes, fmt.Sprintf("Stop trusting %s?", clean(i.Issuer)), "countersign issuer remove "+args[0]+" --yes"); err != nil {
			return err
		}
		path := "/trusted-issuers/" + url.PathEscape(i.ID)
		now, err := x.do(ctx, http.MethodGet, path, nil, "")
		if err != nil {
			return err
		}
		if _, err := x.do(ctx, http.MethodDelete, path, nil, now.etag); err != nil {
			return err
		}
		if a.json {
			return a.document("issuer.remove/v1", map[string]any{"issuer": i.Issuer})
		}
		a.say("%s is not trusted any more.", clean(i.Issuer))
		return nil
	})
	return c
}
