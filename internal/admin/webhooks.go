package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Notices are what the API needs to manage who is told of what.
type Notices struct {
	Store  notice.Store
	Sealer notice.Sealer
	// Plain reports whether a host may be called without TLS and may have any
	// address; nil: none.
	Plain func(host string) bool
}

// WebhookSpec says what a webhook is to be.
type WebhookSpec struct {
	Name   string   `json:"name" maxLength:"320"`
	URL    string   `json:"url" maxLength:"1024" doc:"https; http, and addresses within your own network, only of hosts that egress.allow of the configuration names"`
	Events []string `json:"events,omitempty" maxItems:"100" doc:"Kinds of record, or all of a noun as factor.*; if left out, all that persons or administrators are told of"`
}

// Webhook is a registered receiver of events.
type Webhook struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	URL       string    `json:"url"`
	Events    []string  `json:"events" nullable:"false"`
	State     string    `json:"state" enum:"active,disabled" doc:"disabled: by an administrator, or because the receiver answered 410"`
	Secret    string    `json:"secret,omitempty" doc:"whsec_…, told only when it is made"`
	Overlap   time.Time `json:"overlap_until,omitzero" doc:"Until then the secret before this one signs, too"`
	ManagedBy string    `json:"managed_by"`
	CreatedAt time.Time `json:"created_at"`
}

type (
	webhookIn struct {
		KeyParam
		Body WebhookSpec
	}
	webhookPutIn struct {
		ID      string `path:"id" maxLength:"64"`
		IfMatch string `header:"If-Match" maxLength:"64"`
		Body    WebhookSpec
	}
	webhookOut struct {
		Location string `header:"Location"`
		Tagged
		Body Webhook
	}
)

func (a *API) webhooks() {
	const tag = "webhooks"
	read := operation{tag: tag, scope: ScopeRead, action: policy.WebhookRead, kind: audit.TokenRefused}
	write := operation{tag: tag, scope: ScopeWrite, action: policy.WebhookWrite}
	on := func(op operation, id, method, path, summary string, kind audit.Kind, status int) operation {
		op.id, op.method, op.path, op.summary, op.status = id, method, path, summary, status
		if kind != 0 {
			op.kind = kind
		}
		return op
	}
	register(a, on(read, "list-webhooks", http.MethodGet, "/v1/webhooks", "List webhooks", 0, 0), a.listWebhooks)
	register(a, on(write, "create-webhook", http.MethodPost, "/v1/webhooks", "Register a webhook; its secret is told this once", audit.WebhookCreated, http.StatusCreated), a.createWebhook)
	register(a, on(read, "get-webhook", http.MethodGet, "/v1/webhooks/{id}", "Read a webhook", 0, 0),
		func(ctx context.Context, _ *call, in *idIn) (*webhookOut, error) { return a.showWebhook(ctx, in.ID) })
	register(a, on(write, "replace-webhook", http.MethodPut, "/v1/webhooks/{id}", "Change what a webhook is", audit.WebhookUpdated, 0), a.replaceWebhook)
	register(a, on(write, "end-webhook", http.MethodDelete, "/v1/webhooks/{id}", "Remove a webhook, with what it has not been told", audit.WebhookEnded, http.StatusNoContent), a.endWebhook)
	register(a, on(write, "rotate-webhook-secret", http.MethodPost, "/v1/webhooks/{id}/secret", "Give a webhook another secret; both sign for a day", audit.WebhookSecretRotated, 0), a.rotateWebhook)
	register(a, on(write, "enable-webhook", http.MethodPost, "/v1/webhooks/{id}/enable", "Switch a webhook on; it goes on from where it was", audit.WebhookUpdated, 0),
		func(ctx context.Context, c *call, in *idIn) (*webhookOut, error) {
			return a.switchWebhook(ctx, c, in.ID, lineage.Thaw{ID: in.ID})
		})
	register(a, on(write, "disable-webhook", http.MethodPost, "/v1/webhooks/{id}/disable", "Switch a webhook off", audit.WebhookUpdated, 0),
		func(ctx context.Context, c *call, in *idIn) (*webhookOut, error) {
			return a.switchWebhook(ctx, c, in.ID, lineage.Freeze{ID: in.ID, Why: "disabled"})
		})
}

func viewWebhook(w notice.Webhook) Webhook {
	v := Webhook{ID: w.ID, Name: w.Name, URL: w.URL, Events: append([]string{}, w.Events...), State: "active", ManagedBy: w.ManagedBy, CreatedAt: w.CreatedAt}
	if !w.Node.Live() {
		v.State = "disabled"
	}
	if len(w.Before) > 0 {
		v.Overlap = w.BeforeEnd
	}
	return v
}

func (a *API) listWebhooks(ctx context.Context, _ *call, in *PageParams) (*pageOut[Webhook], error) {
	return paged(*in, func(after string, n int) ([]notice.Webhook, error) { return a.Notices.Store.Webhooks(ctx, after, n) },
		func(w notice.Webhook) string { return w.ID }, nil, func(w notice.Webhook) (Webhook, error) { return viewWebhook(w), nil })
}

func (a *API) showWebhook(ctx context.Context, id string) (*webhookOut, error) {
	w, err := a.Notices.Store.Webhook(ctx, id)
	return &webhookOut{"/v1/webhooks/" + w.ID, Tagged{tag(w.Node)}, viewWebhook(w)}, err
}

// asked is the webhook that a spec describes.
func (a *API) asked(s WebhookSpec) (notice.Webhook, error) {
	w := notice.Webhook{Name: strings.TrimSpace(s.Name), URL: s.URL, Events: s.Events, ManagedBy: "api"}
	plain := a.Notices.Plain
	if plain == nil {
		plain = func(string) bool { return false }
	}
	return w, w.Check(plain)
}

// name of a webhook in the log is what administrators chose, and of nobody.
func saidOf(w notice.Webhook) map[string]any { return map[string]any{"webhook": w.ID, "name": w.Name} }

func (a *API) createWebhook(ctx context.Context, c *call, in *webhookIn) (*webhookOut, error) {
	return onlyOnce(ctx, a, c, in.KeyParam, in.Body, a.showWebhook, func(key *idempotency) (*webhookOut, error) {
		w, err := a.asked(in.Body)
		if err != nil {
			return nil, err
		}
		w.ID, w.CreatedAt = id.New(id.Webhook), a.now()
		sealed, told, err := notice.NewSecret(a.Notices.Sealer, w.ID)
		if err != nil {
			return nil, err
		}
		w.Sealed = sealed
		_, err = a.carryOut(ctx, c, change{said: saidOf(w), make: func(*act.Facts) ([]act.Change, error) {
			return key.remember(w.ID, a.now(), notice.CreateWebhook{Webhook: w}), nil
		}})
		if err != nil {
			return nil, err
		}
		return a.tellWebhook(ctx, w.ID, told.Reveal())
	})
}

// tellWebhook is showWebhook with a secret that was made just now.
func (a *API) tellWebhook(ctx context.Context, id, text string) (*webhookOut, error) {
	out, err := a.showWebhook(ctx, id)
	if err != nil {
		return nil, err
	}
	out.Body.Secret = text
	return out, nil
}

func (a *API) replaceWebhook(ctx context.Context, c *call, in *webhookPutIn) (*webhookOut, error) {
	have, err := a.Notices.Store.Webhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, have.Node)
	if err != nil {
		return nil, err
	}
	w, err := a.asked(in.Body)
	if err != nil {
		return nil, err
	}
	w.ID = have.ID
	said := saidOf(w)
	said["changed"] = changedWebhook(have, w)
	_, err = a.carryOut(ctx, c, change{
		target: []string{w.ID}, match: m, said: said,
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{notice.UpdateWebhook{Webhook: w}}, nil },
	})
	if err != nil {
		return nil, err
	}
	return a.showWebhook(ctx, w.ID)
}

// changedWebhook names the members that differ, for the record.
func changedWebhook(x, y notice.Webhook) []string {
	out := []string{}
	for _, m := range []struct {
		name string
		same bool
	}{{"name", x.Name == y.Name}, {"url", x.URL == y.URL}, {"events", slices.Equal(x.Events, y.Events)}} {
		if !m.same {
			out = append(out, m.name)
		}
	}
	return out
}

func (a *API) endWebhook(ctx context.Context, c *call, in *endIn) (*none, error) {
	w, err := a.Notices.Store.Webhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, w.Node)
	if err != nil {
		return nil, err
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{w.ID}, match: m, said: saidOf(w),
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{notice.EndWebhook{ID: w.ID}}, nil },
	})
	return nil, err
}

func (a *API) rotateWebhook(ctx context.Context, c *call, in *struct {
	ID string `path:"id" maxLength:"64"`
	KeyParam
},
) (*webhookOut, error) {
	return onlyOnce(ctx, a, c, in.KeyParam, nil, a.showWebhook, func(key *idempotency) (*webhookOut, error) {
		w, err := a.Notices.Store.Webhook(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		sealed, told, err := notice.NewSecret(a.Notices.Sealer, w.ID)
		if err != nil {
			return nil, err
		}
		_, err = a.carryOut(ctx, c, change{target: []string{w.ID}, said: saidOf(w), make: func(*act.Facts) ([]act.Change, error) {
			return key.remember(w.ID, a.now(), notice.RotateSecret{ID: w.ID, Sealed: sealed, BeforeEnd: a.now().Add(notice.Overlap)}), nil
		}})
		if err != nil {
			return nil, err
		}
		return a.tellWebhook(ctx, w.ID, told.Reveal())
	})
}

func (a *API) switchWebhook(ctx context.Context, c *call, id string, ch act.Change) (*webhookOut, error) {
	w, err := a.Notices.Store.Webhook(ctx, id)
	if err != nil {
		return nil, err
	}
	_, on := ch.(lineage.Thaw)
	if on == w.Node.Live() {
		return a.showWebhook(ctx, id)
	}
	said := saidOf(w)
	said["enabled"] = on
	_, err = a.carryOut(ctx, c, change{target: []string{id}, said: said, make: func(*act.Facts) ([]act.Change, error) { return []act.Change{ch}, nil }})
	if err != nil {
		return nil, err
	}
	return a.showWebhook(ctx, id)
}

// DeadLetter is a notice that could not be delivered.
type DeadLetter struct {
	ID      string    `json:"id"`
	Channel string    `json:"channel" doc:"mail, or the id of a webhook or of a client that is told when sessions end"`
	Record  string    `json:"record" doc:"That it tells of"`
	Person  string    `json:"person,omitempty" doc:"To whom"`
	Why     string    `json:"why" doc:"What the last attempt met"`
	MadeAt  time.Time `json:"made_at"`
	Tries   int       `json:"tries"`
}

// Alert is an alert about a state that has not ended.
type Alert struct {
	Name     string    `json:"name"`
	Subject  string    `json:"subject,omitempty" doc:"Of one that stands for each of many by itself: which"`
	Severity string    `json:"severity" enum:"critical,warning,info"`
	Title    string    `json:"title"`
	Detail   string    `json:"detail,omitempty"`
	Next     string    `json:"next" doc:"What to do"`
	RaisedAt time.Time `json:"raised_at"`
	Record   string    `json:"record"`
}

func (a *API) deliveries() {
	const tag = "notices"
	register(a, operation{
		id: "list-dead-letters", method: http.MethodGet, path: "/v1/deliveries", tag: tag, summary: "List notices that could not be delivered, oldest first",
		scope: ScopeRead, action: policy.WebhookRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *PageParams) (*pageOut[DeadLetter], error) {
		return paged(*in, func(after string, n int) ([]notice.Delivery, error) {
			return a.Notices.Store.DeadLetters(ctx, after, n)
		},
			func(d notice.Delivery) string { return d.ID }, nil, func(d notice.Delivery) (DeadLetter, error) { return viewLetter(d), nil })
	})
	register(a, operation{
		id: "resend-delivery", method: http.MethodPost, path: "/v1/deliveries/{id}/resend", tag: tag, summary: "Have a dead letter tried again, from the beginning",
		scope: ScopeWrite, action: policy.DeliveryResend, kind: audit.DeliveryResent, status: http.StatusNoContent,
	}, func(ctx context.Context, c *call, in *idIn) (*none, error) {
		return a.onLetter(ctx, c, in.ID, notice.Resend{ID: in.ID})
	})
	register(a, operation{
		id: "discard-delivery", method: http.MethodDelete, path: "/v1/deliveries/{id}", tag: tag, summary: "Forget a dead letter",
		scope: ScopeWrite, action: policy.DeliveryResend, kind: audit.DeliveryDiscarded, status: http.StatusNoContent,
	}, func(ctx context.Context, c *call, in *idIn) (*none, error) {
		return a.onLetter(ctx, c, in.ID, notice.Discard{ID: in.ID})
	})
	register(a, operation{
		id: "list-alerts", method: http.MethodGet, path: "/v1/alerts", tag: tag, summary: "List the alerts about states that have not ended",
		scope: ScopeRead, action: policy.WebhookRead, kind: audit.TokenRefused,
	}, a.listAlerts)
}

func viewLetter(d notice.Delivery) DeadLetter {
	person, _, _ := strings.Cut(d.Person, " ")
	if !strings.HasPrefix(person, id.Person) { // an app's is about a session
		person = ""
	}
	return DeadLetter{ID: d.ID, Channel: d.Channel, Record: d.Record, Person: person, Why: d.Why, MadeAt: d.MadeAt, Tries: d.Attempts}
}

func (a *API) onLetter(ctx context.Context, c *call, id string, ch act.Change) (*none, error) {
	d, err := a.Notices.Store.Delivery(ctx, id)
	if err != nil {
		return nil, err
	}
	if !d.Dead() {
		return nil, problem.New(problem.Conflict, "delivery_waiting", "It is no dead letter: it is tried again by itself.")
	}
	_, err = a.carryOut(ctx, c, change{
		said: map[string]any{"delivery": d.ID, "channel": d.Channel, "record": d.Record},
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{ch}, nil },
	})
	return nil, err
}

type alertsOut struct {
	Body struct {
		Items []Alert `json:"items" nullable:"false"`
	}
}

func (a *API) listAlerts(ctx context.Context, _ *call, _ *struct{}) (*alertsOut, error) {
	all, err := a.Notices.Store.Standing(ctx)
	if err != nil {
		return nil, err
	}
	out := &alertsOut{}
	out.Body.Items = []Alert{}
	for _, s := range all {
		rule, _ := notice.AlertNamed(s.Rule)
		out.Body.Items = append(out.Body.Items, Alert{
			Name: s.Rule, Subject: s.Subject, Severity: string(rule.Severity), Title: rule.Title, Detail: s.Detail, Next: rule.Next, RaisedAt: s.RaisedAt, Record: s.Record,
		})
	}
	return out, nil
}
