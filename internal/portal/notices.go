package portal

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	hookPath    = view.PathNotices + "/webhook"
	hookRotate  = hookPath + "/rotate"
	hookSwitch  = hookPath + "/switch"
	hookRemove  = hookPath + "/remove"
	letterAgain = view.PathNotices + "/resend"
	letterGone  = view.PathNotices + "/discard"
)

// Notices is what the administrators' page of notices stands on.
type Notices struct {
	Store  notice.Store
	Sealer notice.Sealer
	// Plain reports whether a host may be called without TLS.
	Plain func(host string) bool
	// Alerts gives the alerts of the log, newest first, at most n.
	Alerts func(ctx context.Context, n int) ([]notice.Event, error)
	// Size is how many records the log has.
	Size func(ctx context.Context) (int64, error)
	// Line gives a record as a list shows it.
	Line func(ctx context.Context, record string) (audit.Line, error)
}

func (s *Server) noticeRoutes(handle func(string, web.Handler)) {
	if s.Notices == nil {
		return
	}
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request, *visitor) error{
		"GET " + view.PathNotices: s.notices,
		"GET " + hookPath:         s.hook,
		"POST " + hookPath:        s.hookPosted,
		"POST " + hookRotate:      s.hookRotated,
		"POST " + hookSwitch:      s.hookSwitched,
		"POST " + hookRemove:      s.hookRemoved,
		"POST " + letterAgain:     s.letter(audit.DeliveryResent, func(id string) act.Change { return notice.Resend{ID: id} }),
		"POST " + letterGone:      s.letter(audit.DeliveryDiscarded, func(id string) act.Change { return notice.Discard{ID: id} }),
	} {
		handle(pattern, s.signedIn(h))
	}
}

// showLetters and showAlerts are how many of each the page shows.
const (
	showLetters = 20
	showAlerts  = 20
)

// notices shows alerts, webhooks and what could not be delivered.
func (s *Server) notices(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ctx := r.Context()
	if ok, err := s.may(w, r, asAdmin(v, policy.WebhookRead, 0), view.PathNotices, "notices"); !ok {
		return err
	}
	m := view.Notices{Mails: s.Mails, AddURL: hookPath}
	var err error
	if m.Reached, err = s.reached(ctx); err != nil {
		return err
	}
	stands, err := s.Notices.Store.Standing(ctx)
	if err != nil {
		return err
	}
	for _, a := range stands {
		rule, _ := notice.AlertNamed(a.Rule)
		m.Stands = append(m.Stands, view.Alert{Title: rule.Title, Severity: string(rule.Severity), Detail: a.Detail, Next: rule.Next, At: a.RaisedAt, Ref: a.Record})
	}
	if m.Recent, err = s.recentAlerts(ctx); err != nil {
		return err
	}
	if m.Hooks, err = s.hooks(ctx); err != nil {
		return err
	}
	letters, err := s.Notices.Store.DeadLetters(ctx, "", showLetters+1)
	if err != nil {
		return err
	}
	for _, d := range letters[:min(len(letters), showLetters)] {
		l, err := s.letterRow(ctx, d)
		if err != nil {
			return err
		}
		m.Letters = append(m.Letters, l)
	}
	m.More = len(letters) > showLetters
	return s.show(w, r, v, view.PathNotices, m)
}

// reached counts the administrators to whom alerts are mailed.
func (s *Server) reached(ctx context.Context) (n int, err error) {
	admins, err := s.administrators(ctx)
	if err != nil {
		return 0, err
	}
	for id := range admins {
		p, err := s.Store.Person(ctx, id)
		if err != nil && !problem.Refusal(err) {
			return 0, err
		}
		if err == nil && p.Verified && p.Email != "" && p.Node.Live() {
			n++
		}
	}
	return n, nil
}

func (s *Server) recentAlerts(ctx context.Context) (out []view.Alert, err error) {
	events, err := s.Notices.Alerts(ctx, showAlerts)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if s.now().Sub(e.At) > lookBack {
			break
		}
		name, _ := e.Field("alert").(string)
		rule, _ := notice.AlertNamed(name)
		a := view.Alert{Title: rule.Title, Severity: string(rule.Severity), Next: rule.Next, At: e.At, Over: e.Kind == audit.AlertCleared, Ref: e.ID}
		a.Detail, _ = e.Field("detail").(string)
		if of, _ := e.Field("of").(string); of != "" {
			l, err := s.Notices.Line(ctx, of)
			if err != nil && !problem.Refusal(err) {
				return nil, err
			}
			if err == nil {
				a.Detail = strings.TrimSpace(sentence(l.Sentence) + " " + a.Detail)
			}
		}
		out = append(out, a)
	}
	return out, nil
}

func (s *Server) hooks(ctx context.Context) (out []view.Hook, err error) {
	all, err := s.Notices.Store.Webhooks(ctx, "", notice.MaxWebhooks)
	if err != nil {
		return nil, err
	}
	size, err := s.Notices.Size(ctx)
	if err != nil {
		return nil, err
	}
	channels, err := s.Notices.Store.Channels(ctx)
	if err != nil {
		return nil, err
	}
	next := map[string]int64{}
	for _, c := range channels {
		next[c.Name] = c.Next
	}
	for _, h := range all {
		row := view.Hook{Name: h.Name, URL: h.URL, Events: h.Events, Off: !h.Node.Live(), ActURL: withQuery(hookPath, "id", h.ID)}
		if at, ok := next[h.ID]; ok {
			row.Behind = max(size-at, 0)
		}
		out = append(out, row)
	}
	return out, nil
}

func (s *Server) letterRow(ctx context.Context, d notice.Delivery) (view.Letter, error) {
	here := []view.Field{{Name: "id", Value: d.ID}}
	l := view.Letter{
		To: "a webhook", About: d.Record, Why: d.Why, At: d.MadeAt, Tries: d.Attempts,
		Resend: view.Form{Action: letterAgain, Hidden: here}, Discard: view.Form{Action: letterGone, Hidden: here},
	}
	line, err := s.Notices.Line(ctx, d.Record)
	if err != nil && !problem.Refusal(err) {
		return l, err
	}
	if err == nil {
		l.About = sentence(line.Sentence)
	}
	if strings.HasPrefix(d.Channel, id.Client) {
		l.To = "an app that is not registered any more"
		if c, err := s.Store.Client(ctx, d.Channel); err == nil {
			l.To = c.Name
		} else if !problem.Refusal(err) {
			return l, err
		}
		return l, nil
	}
	if person, _, _ := strings.Cut(d.Person, " "); person != "" {
		l.To = "somebody who was erased"
		if p, err := s.Store.Person(ctx, person); err == nil {
			l.To = p.Name
		} else if !problem.Refusal(err) {
			return l, err
		}
		return l, nil
	}
	if h, err := s.Notices.Store.Webhook(ctx, d.Channel); err == nil {
		l.To = h.Name
	} else if !problem.Refusal(err) {
		return l, err
	}
	return l, nil
}

// letter is what is done with a dead letter.
func (s *Server) letter(kind audit.Kind, change func(id string) act.Change) func(http.ResponseWriter, *http.Request, *visitor) error {
	return func(w http.ResponseWriter, r *http.Request, v *visitor) error {
		f, err := web.ParseForm(r, maxBody)
		if err != nil {
			return err
		}
		ref := f.Get("id")
		in := asAdmin(v, policy.DeliveryResend, kind)
		in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{change(ref)}, Parts: append(about(v), audit.Part{Body: map[string]any{"delivery": ref}})}, nil
		}
		ok, err := s.perform(w, r, in, view.PathNotices, "notices")
		if errors.Is(err, problem.NotFound) { // somebody else was first
			return seeOther(w, r, view.PathNotices)
		}
		if !ok {
			return err
		}
		return seeOther(w, r, withQuery(view.PathNotices, "done", kind.Name()))
	}
}

// hookForm is the page of a webhook; of a new one without an id.
func hookForm(h notice.Webhook) view.HookEdit {
	here := []view.Field{{Name: "id", Value: h.ID}}
	return view.HookEdit{
		New: h.ID == "", Form: view.Form{Action: hookPath, Hidden: here}, Name: view.Input{Value: h.Name}, URL: view.Input{Value: h.URL},
		Events: view.Input{Value: strings.Join(h.Events, " ")}, Off: h.ID != "" && !h.Node.Live(), Back: view.PathNotices,
		Rotate: view.Form{Action: hookRotate, Hidden: here}, Switch: view.Form{Action: hookSwitch, Hidden: here}, Remove: view.Form{Action: hookRemove, Hidden: here},
	}
}

func (s *Server) hook(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ref := r.URL.Query().Get("id")
	if ok, err := s.may(w, r, asAdmin(v, policy.WebhookWrite, 0), hookURL(ref), "notices"); !ok {
		return err
	}
	h := notice.Webhook{}
	if ref != "" {
		var err error
		if h, err = s.Notices.Store.Webhook(r.Context(), ref); err != nil {
			return err
		}
	}
	return s.show(w, r, v, view.PathNotices, hookForm(h))
}

func hookURL(ref string) string {
	if ref == "" {
		return hookPath
	}
	return withQuery(hookPath, "id", ref)
}

// hookAct is an act of v on a webhook.
func hookAct(v *visitor, kind audit.Kind, h notice.Webhook, changes ...act.Change) act.Intent {
	in := asAdmin(v, policy.WebhookWrite, kind)
	if kind != audit.WebhookCreated {
		in.Refs.Target = []string{h.ID}
	}
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Changes: changes, Parts: append(about(v), audit.Part{Body: map[string]any{"webhook": h.ID, "name": h.Name}})}, nil
	}
	return in
}

// hookPosted makes or changes a webhook.
func (s *Server) hookPosted(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	h := notice.Webhook{ID: f.Get("id"), Name: strings.TrimSpace(f.Get("name")), URL: strings.TrimSpace(f.Get("url")), Events: strings.Fields(f.Get("events")), ManagedBy: "console"}
	here := hookURL(h.ID)
	if ok, err := s.may(w, r, asAdmin(v, policy.WebhookWrite, 0), here, "notices"); !ok {
		return err
	}
	if err := h.Check(s.Notices.Plain); err != nil {
		p := problem.From(err)
		if p == nil {
			return err
		}
		m := hookForm(h)
		field := map[string]*view.Input{"name_invalid": &m.Name, "url_invalid": &m.URL}[p.Code]
		if field == nil {
			field = &m.Events
		}
		field.Error = p.Detail
		return s.show(w, r, v, view.PathNotices, m)
	}
	if h.ID == "" {
		return s.hookMade(w, r, v, h)
	}
	if ok, err := s.perform(w, r, hookAct(v, audit.WebhookUpdated, h, notice.UpdateWebhook{Webhook: h}), here, "notices"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(view.PathNotices, "done", "webhook"))
}

func (s *Server) hookMade(w http.ResponseWriter, r *http.Request, v *visitor, h notice.Webhook) error {
	h.ID, h.CreatedAt = id.New(id.Webhook), s.now()
	sealed, told, err := notice.NewSecret(s.Notices.Sealer, h.ID)
	if err != nil {
		return err
	}
	h.Sealed = sealed
	if ok, err := s.perform(w, r, hookAct(v, audit.WebhookCreated, h, notice.CreateWebhook{Webhook: h}), hookPath, "notices"); !ok {
		return err
	}
	return s.show(w, r, v, view.PathNotices, view.HookSecret{Name: h.Name, Secret: told.Reveal(), Back: view.PathNotices})
}

// ofForm reads which webhook a form is about.
func (s *Server) ofForm(r *http.Request) (h notice.Webhook, err error) {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return h, err
	}
	return s.Notices.Store.Webhook(r.Context(), f.Get("id"))
}

func (s *Server) hookRotated(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.WebhookWrite, 0), view.PathNotices, "notices"); !ok {
		return err
	}
	h, err := s.ofForm(r)
	if err != nil {
		return err
	}
	sealed, told, err := notice.NewSecret(s.Notices.Sealer, h.ID)
	if err != nil {
		return err
	}
	rotate := notice.RotateSecret{ID: h.ID, Sealed: sealed, BeforeEnd: s.now().Add(notice.Overlap)}
	if ok, err := s.perform(w, r, hookAct(v, audit.WebhookSecretRotated, h, rotate), hookURL(h.ID), "notices"); !ok {
		return err
	}
	return s.show(w, r, v, view.PathNotices, view.HookSecret{Name: h.Name, Secret: told.Reveal(), Both: notice.Overlap, Back: view.PathNotices})
}

func (s *Server) hookSwitched(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return s.onHook(w, r, v, audit.WebhookUpdated, func(h notice.Webhook) act.Change {
		if h.Node.Live() {
			return lineage.Freeze{ID: h.ID, Why: "disabled"}
		}
		return lineage.Thaw{ID: h.ID}
	})
}

func (s *Server) hookRemoved(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return s.onHook(w, r, v, audit.WebhookEnded, func(h notice.Webhook) act.Change { return notice.EndWebhook{ID: h.ID} })
}

func (s *Server) onHook(w http.ResponseWriter, r *http.Request, v *visitor, kind audit.Kind, change func(notice.Webhook) act.Change) error {
	if ok, err := s.may(w, r, asAdmin(v, policy.WebhookWrite, 0), view.PathNotices, "notices"); !ok {
		return err
	}
	h, err := s.ofForm(r)
	if err != nil {
		return err
	}
	if ok, err := s.perform(w, r, hookAct(v, kind, h, change(h)), hookURL(h.ID), "notices"); !ok {
		return err
	}
	return seeOther(w, r, withQuery(view.PathNotices, "done", "webhook"))
}
