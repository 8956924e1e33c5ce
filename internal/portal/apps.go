package portal

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	appGroupPath  = view.PathApps + "/group"
	appChangePath = view.PathApps + "/change"

	maxRules = 200 // shown of what was decided, and of pinned descriptions
)

func (s *Server) appRoutes(handle func(string, web.Handler)) {
	handle("GET "+view.PathApps, s.signedIn(s.apps))
	handle("GET "+appGroupPath, s.signedIn(s.appGroup))
	handle("GET "+appChangePath, s.signedIn(s.appChange))
	handle("POST "+appChangePath, s.signedIn(s.appChanged))
}

var errNoApp = problem.New(problem.NotFound, "client_not_found", "There is no such app. It may have been removed.")

// apps lists the apps that nobody registered and people agreed to, by group, with
// what administrators said of them.
func (s *Server) apps(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ctx := r.Context()
	if ok, err := s.may(w, r, asAdmin(v, policy.ClientRead, 0), r.URL.RequestURI(), "apps"); !ok {
		return err
	}
	open, err := s.Store.Openness(ctx)
	if err != nil {
		return err
	}
	m := view.Apps{Itself: open.Registration, PinURL: withQuery(appChangePath, "do", doPin)}
	m.Documents = map[client.Admission]view.Documents{client.Listed: view.ListedDocuments, client.Anyone: view.AnyDocuments}[open.Documents]
	if m.May, err = s.openTo(ctx, open); err != nil {
		return err
	}
	before := r.URL.Query().Get("before")
	if before != "" {
		m.Newer = view.PathApps
	}
	met, err := s.Store.Met(ctx, before, perPage+1)
	if err != nil {
		return err
	}
	if len(met) > perPage {
		met = met[:perPage]
		m.Older = withQuery(view.PathApps, "before", met[perPage-1].Newest)
	}
	rules, err := s.Store.Rules(ctx)
	if err != nil {
		return err
	}
	for _, x := range met {
		m.Items = append(m.Items, groupRow(x, rules))
	}
	for _, x := range rules[:min(len(rules), maxRules)] {
		row := view.AppRule{Name: x.Name, Group: x.Group, Trust: trusts[x.Trust], At: x.At, ChangeURL: groupURL(appChangePath, x.Source, x.Group, "do", doForget)}
		if row.Name == "" {
			row.Name = x.Group
		}
		m.Rules = append(m.Rules, row)
	}
	if m.Pins, err = s.pins(ctx); err != nil {
		return err
	}
	return s.show(w, r, v, view.PathApps, m)
}

func (s *Server) pins(ctx context.Context) (out []view.AppPin, err error) {
	kept, err := s.Store.Documents(ctx, "", maxRules)
	for _, d := range kept {
		name := d.ClientID
		if c, err := client.ParseDocument(d.ClientID, d.Body); err == nil {
			name = c.Name
		}
		out = append(out, view.AppPin{Name: name, ClientID: d.ClientID, At: d.At, ChangeURL: withQuery(appChangePath, "do", doUnpin, "client", d.ClientID)})
	}
	return out, err
}

var trusts = map[client.Trust]view.AppTrust{client.Allowed: view.AllowedApp, client.Trusted: view.TrustedApp, client.Blocked: view.BlockedApp}

// groupURL is a page about a group.
func groupURL(path string, source client.Source, group string, more ...string) string {
	return withQuery(path, append([]string{"source", string(source), "group", group}, more...)...)
}

func groupRow(x client.Met, rules []client.Rule) view.AppGroup {
	row := view.AppGroup{Name: x.Name, Apps: x.Clients, People: x.People, UsedAt: x.UsedAt, URL: groupURL(appGroupPath, x.Source, x.Group)}
	if x.Source == client.FromDocument {
		row.Domain = x.Group
	} else {
		row.Print = x.Group
	}
	trust := client.TrustOf(client.Client{Origin: client.Origin{Source: x.Source, Group: x.Group}}, rules)
	row.Trust = trusts[trust]
	for _, c := range changesOf(x.Source, trust) {
		row.Changes = append(row.Changes, view.Link{Text: appVerbs[c].verb, URL: groupURL(appChangePath, x.Source, x.Group, "do", c)})
	}
	return row
}

// changesOf are what can be said of a group of which this is said.
func changesOf(source client.Source, said client.Trust) []string {
	switch {
	case said == client.Blocked:
		return []string{doForget}
	case source == client.FromItself: // anybody can take its name
		return []string{doBlock}
	case said == client.Trusted:
		return []string{doBlock, doAllow, doForget}
	case said == client.Allowed:
		return []string{doBlock, doTrust, doForget}
	}
	return []string{doBlock, doAllow, doTrust}
}

// openTo says what such apps may ask for, a line for each resource.
func (s *Server) openTo(ctx context.Context, open client.Openness) (out []string, err error) {
	if len(open.Scopes) == 0 {
		return nil, nil
	}
	what := strings.Join(open.Scopes, ", ")
	if slices.Contains(open.Scopes, "*") {
		what = "anything"
	}
	for _, id := range open.Resources {
		if id == "*" {
			out = append(out, what+", at any API but this server's own")
			continue
		}
		res, err := s.Store.Resource(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, what+", at "+res.Name+" ("+res.URI+")")
	}
	return out, nil
}

// appGroup shows one group: its apps, who uses them, and what can be done.
func (s *Server) appGroup(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ctx, q := r.Context(), r.URL.Query()
	if ok, err := s.may(w, r, asAdmin(v, policy.ClientRead, 0), r.URL.RequestURI(), "apps"); !ok {
		return err
	}
	source, group := client.Source(q.Get("source")), q.Get("group")
	list, err := s.inGroup(ctx, source, group)
	if err != nil {
		return err
	}
	rules, err := s.Store.Rules(ctx)
	if err != nil {
		return err
	}
	m := view.AppDetail{AppGroup: groupRow(client.Met{Source: source, Group: group, Name: list[0].Name, Clients: len(list)}, rules), Back: view.PathApps}
	open, err := s.Store.Openness(ctx)
	if err != nil {
		return err
	}
	if m.May, err = s.openTo(ctx, open); err != nil {
		return err
	}
	uses, err := s.Store.Uses(ctx, source, group, perPage+1)
	if err != nil {
		return err
	}
	m.More = len(list) > perPage || len(uses) > perPage
	names := map[string]string{}
	for _, c := range list {
		names[c.ID] = c.Name
	}
	for _, c := range list[:min(len(list), perPage)] {
		row := view.AppRow{Name: c.Name, ClientID: c.ClientID, To: hostsOf(c), Since: c.CreatedAt, Stopped: !c.Node.Live(), RemoveURL: withQuery(appChangePath, "do", doRemove, "client", c.ID)}
		if _, err := s.Store.Document(ctx, c.ClientID); err == nil {
			row.Pinned = true
		} else if !problem.Refusal(err) {
			return err
		}
		m.Apps = append(m.Apps, row)
	}
	for _, u := range uses[:min(len(uses), perPage)] {
		m.UsedAt = later(m.UsedAt, u.UsedAt)
		who, err := s.Store.Person(ctx, u.Person)
		if err != nil {
			return err
		}
		row := view.AppUse{Person: who.Name, App: names[u.Client], Since: u.At, UsedAt: u.UsedAt}
		if row.Permissions, err = s.agreedTo(ctx, u); err != nil {
			return err
		}
		m.Uses = append(m.Uses, row)
	}
	return s.show(w, r, v, view.PathApps, m)
}

// inGroup are the live and frozen clients of exactly this group, newest first.
func (s *Server) inGroup(ctx context.Context, source client.Source, group string) ([]client.Client, error) {
	if source != client.FromDocument && source != client.FromItself || strings.HasPrefix(group, "*") {
		return nil, errNoApp
	}
	list, err := s.Store.Under(ctx, client.Rule{Source: source, Group: group})
	list = slices.DeleteFunc(list, func(c client.Client) bool { return c.Source != source || c.Group != group })
	if err == nil && len(list) == 0 {
		err = errNoApp
	}
	return list, err
}

func hostsOf(c client.Client) (out []string) {
	for _, u := range c.RedirectURIs {
		host := client.DocumentHost(u)
		if host == "" {
			host = u
		}
		if !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	return out
}

// agreedTo names what a person agreed to.
func (s *Server) agreedTo(ctx context.Context, u client.Use) (out []string, err error) {
	for _, said := range u.Scopes {
		at, scope, found := strings.Cut(said, " ")
		if !found {
			out = append(out, said)
			continue
		}
		res, err := s.Store.Resource(ctx, at)
		if !problem.Refusal(err) && err != nil {
			return nil, err
		}
		if sc, ok := res.Scope(scope); ok && sc.Description != "" {
			scope = sc.Description
		}
		out = append(out, scope+" ("+res.Name+")")
	}
	return out, nil
}
