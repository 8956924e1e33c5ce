package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/web"
)

// Hooks calls webhooks, behind the guard on outbound calls.
type Hooks struct {
	client *http.Client
	sealer notice.Sealer
	now    func() time.Time
}

// NewHooks makes the caller of webhooks. An answer is read to 64 KiB and within
// the time of one attempt.
func NewHooks(e web.Egress, sealer notice.Sealer, now func() time.Time) *Hooks {
	e.MaxBytes, e.Timeout = 64<<10, sendTime
	if now == nil {
		now = time.Now
	}
	return &Hooks{client: e.Client(), sealer: sealer, now: now}
}

// hookChannel is one webhook.
func (n *Notifier) hookChannel(w notice.Webhook) channel {
	off := false // of this worker, which is about to be stopped
	return channel{name: w.ID, stat: 1, kinds: w.Kinds(), messages: func(_ context.Context, e notice.Event) ([]message, error) {
		if !w.Wants(e.Kind) {
			return nil, nil
		}
		return []message{{send: func(ctx context.Context) error {
			if off {
				return errGone
			}
			err := n.call(ctx, w, e)
			off = errors.Is(err, errGone)
			return err
		}}}, nil
	}}
}

// errGone is of a receiver that answered 410. Where its channel stands stays: it
// goes on from there if it is switched on again.
var errGone = &failure{why: "the receiver answered 410: it is switched off", down: true}

// call sends an event. A receiver that answers 410 is switched off: it says that
// it will never take anything again.
func (n *Notifier) call(ctx context.Context, w notice.Webhook, e notice.Event) error {
	text, err := payload(e)
	if err != nil {
		return err
	}
	err = n.Hooks.post(ctx, w, e.ID, text)
	var gone *goneError
	if errors.As(err, &gone) {
		if err := n.switchOff(ctx, w.ID); err != nil {
			return err
		}
		return errGone
	}
	return err
}

func (n *Notifier) switchOff(ctx context.Context, id string) error {
	_, err := n.Do.Do(ctx, act.Intent{
		Action: policy.NotificationRun, Kind: audit.WebhookUpdated, Refs: act.Refs{Kind: policy.KindSystem, Target: []string{id}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{lineage.Freeze{ID: id, Why: "gone"}},
				Parts:   []audit.Part{{Body: map[string]any{"webhook": id, "why": "gone"}}},
			}, nil
		},
	})
	return err
}

// Event is what a webhook gets: the envelope of Standard Webhooks, with the line
// of the log as its data.
type Event struct {
	Type      string    `json:"type"` // kind of the record, e.g. factor.enrolled
	Timestamp time.Time `json:"timestamp"`
	Data      Data      `json:"data"`
}

// Data is the line of the log.
type Data struct {
	ID        string   `json:"id"`  // of the record; webhook-id is the same
	Seq       int64    `json:"seq"` // index in the log
	Sentence  string   `json:"sentence"`
	Actor     string   `json:"actor"`             // by name
	Persons   []string `json:"persons,omitempty"` // ids of those concerned, who acted first
	Client    string   `json:"client,omitempty"`
	Assurance string   `json:"assurance,omitempty"`
	Refused   bool     `json:"refused,omitempty"`
	Code      string   `json:"code,omitempty"`     // of a refusal
	Alert     string   `json:"alert,omitempty"`    // name of the rule, of an alert
	Severity  string   `json:"severity,omitempty"` // critical, warning or info
	Detail    string   `json:"detail,omitempty"`
	Of        string   `json:"of,omitempty"` // the record that an alert is about
}

func payload(e notice.Event) ([]byte, error) {
	d := Data{
		ID: e.ID, Seq: e.Seq, Sentence: e.Sentence, Actor: e.Actor, Persons: e.Line.Persons, Client: e.Client, Assurance: e.Assurance,
		Refused: e.Refused, Code: e.Code,
	}
	if e.Kind == audit.AlertRaised || e.Kind == audit.AlertCleared {
		d.Alert, _ = e.Field("alert").(string)
		d.Severity, _ = e.Field("severity").(string)
		d.Detail, _ = e.Field("detail").(string)
		d.Of, _ = e.Field("of").(string)
	}
	return json.Marshal(Event{Type: e.Kind.Name(), Timestamp: e.At, Data: d})
}

// goneError is the answer 410.
type goneError struct{}

// Error implements error.
func (*goneError) Error() string { return "notify: the receiver is gone" }

// post sends one message and judges the answer: anything but 2xx is a failure
// (Standard Webhooks 1.0). Every live secret signs.
func (h *Hooks) post(ctx context.Context, w notice.Webhook, id string, text []byte) error {
	now := h.now()
	secrets, err := w.Secrets(h.sealer, now)
	if err != nil {
		return fmt.Errorf("unseal the secret of webhook %s: %w", w.ID, err)
	}
	var signatures []string
	for _, raw := range secrets {
		s, err := standardwebhooks.NewWebhookRaw(raw)
		if err != nil {
			return err
		}
		one, err := s.Sign(id, now, text)
		if err != nil {
			return err
		}
		signatures = append(signatures, one)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(text))
	if err != nil {
		return &failure{why: "the address cannot be called", final: true}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Countersign")
	r.Header.Set(standardwebhooks.HeaderWebhookID, id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return sent(h.client, r)
}

// sent makes a call to a receiver and judges the answer.
func sent(c *http.Client, r *http.Request) error {
	resp, err := c.Do(r)
	if err != nil {
		return &failure{why: "the receiver cannot be reached: " + reached(err), barred: errors.Is(err, web.ErrEgress)}
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection can be used again; what it says is not looked at
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode == http.StatusGone:
		return &goneError{}
	}
	f := &failure{why: "the receiver answered " + strconv.Itoa(resp.StatusCode), status: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		f.after = time.Duration(min(seconds, 3600)) * time.Second
	}
	return f
}
