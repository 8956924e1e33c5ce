package portal

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// What can be done about apps that nobody registered.
const (
	doBlock  = "block"
	doAllow  = "allow"
	doTrust  = "trust"
	doForget = "forget" // what was said of a group
	doPin    = "pin"
	doUnpin  = "unpin"
	doRemove = "remove"
)

// appVerbs are the words of what can be done, with what it means.
var appVerbs = map[string]struct {
	verb   string
	leads  []string
	trust  client.Trust
	danger bool
	done   string // key of notices
}{
	doBlock: {"Block", []string{
		"They stop at once: what they were given stands still everywhere within seconds, and nobody can sign in to them.",
		"Taking the block back lets them go on.",
	}, client.Blocked, true, "app-blocked"},
	doAllow: {"Allow", []string{
		"Apps at this domain may describe themselves. People are asked each time.",
		"The server may reach them within your network, as far as its configuration lets it.",
	}, client.Allowed, false, "app-judged"},
	doTrust: {"Trust", []string{
		"Apps at this domain are treated as if you had registered them: what people agreed to is remembered, and they aren't asked again.",
	}, client.Trusted, false, "app-judged"},
	doForget: {"Take back", []string{
		"It counts as any other from then on. What a block stopped goes on, unless something else blocks it.",
	}, client.Unsaid, false, "app-judged"},
	doPin: {"Pin", []string{
		"The app is what this description says, whatever is at its address: nothing is fetched, and its domain need not be allowed. It takes the place of an earlier one of the same address.",
	}, "", false, "app-pinned"},
	doUnpin: {"Unpin", []string{
		"The description is fetched from its address again, where that's allowed. Otherwise nobody can agree to the app any more; who did goes on.",
	}, "", false, "app-unpinned"},
	doRemove: {"Remove", []string{
		"Everything it was given ends everywhere within seconds, for ever. Nothing keeps it from coming back, if somebody agrees to it again: block it to prevent that.",
	}, "", true, "app-removed"},
}

// appWork is something to be done about apps: its page and its act.
type appWork struct {
	page    view.AppChange
	here    string // the page's address
	done    string // where the browser goes then
	kind    audit.Kind
	target  []string
	said    map[string]any
	changes []act.Change
}

// work finds what is to be done, from the page's or the form's values.
func (s *Server) work(ctx context.Context, f url.Values) (*appWork, error) {
	do := f.Get("do")
	words, known := appVerbs[do]
	if !known {
		return nil, problem.New(problem.NotFound, "change_unknown", "There is no such change.")
	}
	x := &appWork{done: withQuery(view.PathApps, "done", words.done)}
	x.page = view.AppChange{Verb: words.verb, Leads: words.leads, Danger: words.danger, Back: view.PathApps}
	kept := []string{"do", do}
	var err error
	switch do {
	case doPin:
		x.kind = audit.ClientPinned
		x.page.What, x.page.Document = "the description of an app", &view.Input{Value: f.Get("document")}
	case doUnpin:
		kept, err = append(kept, "client", f.Get("client")), s.unpins(ctx, x, f.Get("client"))
	case doRemove:
		kept, err = append(kept, "client", f.Get("client")), s.removes(ctx, x, f.Get("client"))
	default:
		kept = append(kept, "source", f.Get("source"), "group", f.Get("group"))
		err = s.decides(ctx, x, client.Rule{Source: client.Source(f.Get("source")), Group: f.Get("group"), Trust: words.trust, At: s.now()})
	}
	x.here = withQuery(appChangePath, kept...)
	x.page.Form = view.Form{Action: appChangePath, Hidden: fields(kept...)}
	return x, err
}

// decides is saying something of a group, with all that stops or goes on by it.
func (s *Server) decides(ctx context.Context, x *appWork, rule client.Rule) error {
	if err := client.CheckRule(rule); err != nil {
		return err
	}
	x.page.What = "apps of " + rule.Group
	if rule.Source == client.FromItself {
		x.page.What = "apps that registered themselves like this"
	}
	list, err := s.inGroup(ctx, rule.Source, rule.Group)
	switch {
	case err == nil:
		rule.Name = list[0].Name
		if rule.Source == client.FromItself {
			x.page.What = rule.Name
		}
		x.page.Back = groupURL(appGroupPath, rule.Source, rule.Group)
	case !problem.Refusal(err):
		return err
	}
	if rule.Trust == client.Unsaid {
		x.page.What = "what you decided about " + x.page.What
	}
	stand, ids, err := client.Stand(ctx, s.Store, rule)
	if err != nil {
		return err
	}
	x.kind = audit.ClientRuleSet
	x.changes = append([]act.Change{client.SetRule{Rule: rule}}, stand...)
	x.said = map[string]any{"group": rule.Group, "about": string(rule.Source), "trust": cmp.Or(string(rule.Trust), "none"), "name": rule.Name, "clients": ids}
	return nil
}

func (s *Server) unpins(ctx context.Context, x *appWork, clientID string) error {
	if _, err := s.Store.Document(ctx, clientID); err != nil {
		return orNothing(err, errNoApp)
	}
	x.page.What, x.kind = clientID, audit.ClientUnpinned
	x.changes, x.said = []act.Change{client.UnpinDocument{ClientID: clientID}}, map[string]any{"client_id": clientID}
	return nil
}

func (s *Server) removes(ctx context.Context, x *appWork, id string) error {
	c, err := s.Store.Client(ctx, id)
	if err != nil {
		return orNothing(err, errNoApp)
	}
	if c.Known() || !c.Node.EndedAt.IsZero() {
		return errNoApp
	}
	x.page.What, x.page.Back, x.kind = c.Name, groupURL(appGroupPath, c.Source, c.Group), audit.ClientEnded
	x.target, x.changes = []string{c.ID}, []act.Change{lineage.End{ID: c.ID, Why: "ended"}}
	x.said = map[string]any{"client": c.ID, "client_id": client.StoredID(c.ClientID), "name": c.Name}
	return nil
}

// pins reads the description that is to be kept.
func (x *appWork) pins(text string, at time.Time) error {
	var named struct {
		ClientID string `json:"client_id"`
	}
	d := client.Document{Body: []byte(text), At: at}
	if err := json.Unmarshal(d.Body, &named); err != nil {
		return problem.New(problem.Invalid, "client_document_invalid", "That isn't a JSON document with a client_id.").Because(err)
	}
	d.ClientID = named.ClientID
	if err := client.CheckDocumentURL(d.ClientID); err != nil {
		return err
	}
	c, err := client.ParseDocument(d.ClientID, d.Body)
	if err != nil {
		return err
	}
	x.changes, x.said = []act.Change{client.PinDocument{Document: d}}, map[string]any{"client_id": d.ClientID, "name": c.Name}
	return nil
}

// appChange asks before something is done.
func (s *Server) appChange(w http.ResponseWriter, r *http.Request, v *visitor) error {
	// Whether there is such an app is for those who may change apps.
	if ok, err := s.may(w, r, asAdmin(v, policy.ClientWrite, 0), r.URL.RequestURI(), "apps"); !ok {
		return err
	}
	x, err := s.work(r.Context(), r.URL.Query())
	if err != nil {
		return err
	}
	return s.show(w, r, v, view.PathApps, x.page)
}

func (s *Server) appChanged(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	values := url.Values{}
	for _, name := range []string{"do", "source", "group", "client", "document"} {
		values.Set(name, f.Get(name))
	}
	if ok, err := s.may(w, r, asAdmin(v, policy.ClientWrite, 0), view.PathApps, "apps"); !ok {
		return err
	}
	x, err := s.work(r.Context(), values)
	if err != nil {
		return err
	}
	if x.page.Document != nil {
		in, err := wrong(values.Get("document"), x.pins(values.Get("document"), s.now()))
		if err != nil {
			return err
		}
		if in.Error != "" {
			x.page.Document = &in
			return s.show(w, r, v, view.PathApps, x.page)
		}
	}
	in := asAdmin(v, policy.ClientWrite, x.kind)
	in.Refs.Target = x.target
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Changes: x.changes, Parts: append(about(v), audit.Part{Body: x.said})}, nil
	}
	if ok, err := s.perform(w, r, in, x.here, "apps"); !ok {
		return err
	}
	return seeOther(w, r, x.done)
}
