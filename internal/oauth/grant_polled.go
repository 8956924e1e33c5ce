package oauth

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
)

// polledGrant gives a client what a person let it have in a browser elsewhere
// (RFC 8628 §3.4, CIBA Core §10.1). Until somebody has answered, it changes nothing.
type polledGrant struct {
	s *Server
	polled
}

// polled is how the answer to a kind of request is fetched.
type polled struct {
	by        client.GrantType
	parameter string
	kind      secret.Kind
	code      once.Purpose  // what the client presents
	answer    once.Purpose  // what it fetches
	yes       policy.Action // by which a person allows it
	unknown   *problem.Error
}

var (
	byDevice = polled{
		client.DeviceCode, "device_code", secret.DeviceCode, once.DeviceCode, once.DeviceAnswer, policy.DeviceApprove,
		invalid("invalid_grant", "The device code is unknown, was used before, or was made for another client or key."),
	}
	byBackchannel = polled{
		client.CIBA, "auth_req_id", secret.AuthRequest, once.Backchannel, once.BackchannelAnswer, policy.CIBAApprove,
		invalid("invalid_grant", "The auth_req_id is unknown, was used before, or was made for another client or key."),
	}
)

var (
	errPending  = invalid("authorization_pending", "Nobody has answered yet.")
	errSlowDown = invalid("slow_down", "That was too early. Wait five seconds longer each time from now on.")
	errExpired  = invalid("expired_token", "Nobody answered in time. Ask again.")
	errSaidNo   = invalid("access_denied", "The person said no.")
	errMistyped = invalid("access_denied", "The confirmation code was typed wrongly too often. Ask for a new code.")
)

func (g polledGrant) intent(ctx context.Context, t *tokenRequest) (*pendingIssue, error) {
	text := t.form.Get(g.parameter)
	if text == "" {
		return nil, invalid("invalid_request", g.parameter+" is missing.")
	}
	v, err := secret.Read(g.kind, text)
	if err != nil {
		return nil, g.unknown.Because(err)
	}
	red := &redemption{by: g.by, now: t.rows.now, key: once.KeyOf(g.code, v.Reveal())}
	var d grant.Decoupled
	if red.value, err = g.s.remembered(ctx, g.code, red.key, &d); err != nil {
		return nil, oneOf(err, g.unknown)
	}
	why := ""
	switch {
	case d.Client != t.client.ID:
		why = "another client presented the " + g.parameter
	case d.JKT != "" && d.JKT != t.jkt():
		why = "the " + g.parameter + " is bound to another key"
	}
	if why != "" {
		return nil, g.s.missed(ctx, t, red, why, g.unknown)
	}
	var a grant.Answered
	if _, err := g.s.remembered(ctx, g.answer, red.key, &a); err != nil {
		if !isGone(err) {
			return nil, err
		}
		return nil, g.wait(ctx, t, red, d)
	}
	if a.Denied {
		return nil, errSaidNo
	}
	red.code = a.Code
	res, err := codeResource(ctx, t, red.code.Resources)
	if err != nil {
		return nil, err
	}
	if !red.value.UsedAt.IsZero() {
		return nil, g.s.reused(ctx, t, red, red.value.UsedAt, red.value.Ref)
	}
	if err := g.stillAllowed(ctx, red.code); err != nil {
		return nil, err
	}
	return g.s.redeem(ctx, t, red, res)
}

// stillAllowed asks policy once more for what a person allowed minutes ago, with all
// that they were asked: one that forbids it since then counts. Proofs that have grown
// older since do not matter.
func (g polledGrant) stillAllowed(ctx context.Context, c grant.Code) error {
	in := act.Intent{
		Action: g.yes, Proofs: c.Proofs,
		Refs: act.Refs{Kind: policy.KindPerson, Actor: c.Person, Session: c.Session, Client: c.Client},
	}
	if err := g.s.about(ctx, &in, c.Resources, c.Scopes, c.Details); err != nil {
		return err
	}
	dec, _, err := g.s.Do.Judge(ctx, in)
	if err == nil && dec.Outcome == policy.Deny {
		err = g.unknown.Because(dec.Problem(g.s.Ladder))
	}
	return err
}

// wait says that nobody has answered, and how to go on.
func (g polledGrant) wait(ctx context.Context, t *tokenRequest, red *redemption, d grant.Decoupled) error {
	t.acted = true // a poll is counted once
	if !red.now.Before(d.Until) || red.value.Misses >= once.MaxMisses {
		return errExpired
	}
	w := &waiting{problem: errPending}
	if g.code == once.DeviceCode {
		if err := g.entered(ctx, t, red, w); err != nil {
			return err
		}
	}
	if g.s.polls.early(red.key, red.now, d.Until) {
		w.problem = errSlowDown
	}
	return w
}

// entered looks at what came of a device's code so far.
func (g polledGrant) entered(ctx context.Context, t *tokenRequest, red *redemption, w *waiting) error {
	var o grant.Opened
	v, err := g.s.remembered(ctx, once.DeviceOpened, red.key, &o)
	switch {
	case err == nil && v.Misses >= once.MaxMisses:
		return errMistyped
	case err == nil && t.client.DeviceConfirm:
		w.confirm = o.Confirm
	case err != nil && !isGone(err):
		return err
	}
	return nil
}

// remembered reads a single-use value and what it stands for; *once.Gone if it was
// never there.
func (s *Server) remembered(ctx context.Context, p once.Purpose, k once.Key, into any) (once.Value, error) {
	v, err := s.State.OnceValue(ctx, p, k)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(v.Data, into)
}

func isGone(err error) bool {
	var gone *once.Gone
	return errors.As(err, &gone)
}

// oneOf is p in the place of what says that a value is not there; other errors
// are the server's own.
func oneOf(err error, p *problem.Error) error {
	if isGone(err) || problem.Refusal(err) {
		return p.Because(err)
	}
	return err
}
