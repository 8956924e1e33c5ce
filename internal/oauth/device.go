package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/web"
)

const devicePath = "/oauth/device_authorization"

// VerificationPath is the page on which a person types the code of a device.
const VerificationPath = "/device"

// maxHost is how many bytes a device may call itself with.
const maxHost = 64

// deviceAnswer is RFC 8628 §3.2.
type deviceAnswer struct {
	DeviceCode string `json:"device_code"`
	UserCode   string `json:"user_code"`
	URI        string `json:"verification_uri"`
	Complete   string `json:"verification_uri_complete"`
	ExpiresIn  int64  `json:"expires_in"`
	Interval   int64  `json:"interval"`
}

// deviceAuthorization is the device authorization endpoint (RFC 8628 §3.1).
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request) error {
	out, err := s.startDevice(w, r)
	if err != nil {
		s.refusedQuietly(r, policy.DeviceStart, err)
		return renderError(w, r, err)
	}
	return web.JSON(w, http.StatusOK, out)
}

func (s *Server) startDevice(w http.ResponseWriter, r *http.Request) (*deviceAnswer, error) {
	ctx := r.Context()
	f, err := web.ParseForm(r, maxForm, "resource")
	if err != nil {
		return nil, err
	}
	c, err := s.authenticate(ctx, r, f, s.current)
	if err != nil {
		return nil, err
	}
	note(r, "client", shortID(c.Client))
	key, err := s.dpop(w, r, "")
	if err != nil {
		return nil, err
	}
	d, err := s.readDevice(ctx, c.Client, f)
	if err != nil {
		return nil, err
	}
	addr := s.ClientAddr(r)
	if addr.IsValid() {
		d.Address = addr.Unmap().WithZone("").String()
	}
	if key != nil {
		d.JKT = key.jkt
		c.spend = append(c.spend, key.spend)
	}
	code := secret.New(secret.DeviceCode)
	if err := s.askDevice(ctx, c, d, code, grant.NetworkOf(addr)); err != nil {
		return nil, err
	}
	shown := grant.ShowUserCode(d.UserCode)
	return &deviceAnswer{
		DeviceCode: code.Reveal(), UserCode: shown, URI: s.Issuer + VerificationPath, Complete: s.Issuer + VerificationPath + "?user_code=" + shown,
		ExpiresIn: int64(grant.DeviceLifetime.Seconds()), Interval: int64(grant.DeviceInterval.Seconds()),
	}, nil
}

// readDevice reads what a device asks for, as an authorization request is read.
func (s *Server) readDevice(ctx context.Context, c client.Client, f web.Form) (grant.Device, error) {
	if !c.Allows(client.DeviceCode) || c.Source != "" || c.FAPI() { // never one that registered itself, and FAPI knows codes only
		return grant.Device{}, invalid("unauthorized_client", "The client is not registered for device authorization by an administrator.")
	}
	a := &authRequest{client: c}
	if err := s.readDecoupled(ctx, a, f, c.DeviceScope); err != nil {
		return grant.Device{}, err
	}
	if f.Has("id_token_hint") {
		return grant.Device{}, invalid("invalid_request", "id_token_hint means nothing here: whoever types the code is asked.")
	}
	if f.Has("authorization_details") {
		return grant.Device{}, badDetails("A device asks by scopes only.")
	}
	host := f.Get("host")
	if len(host) > maxHost || !utf8.ValidString(host) || strings.ContainsFunc(host, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return grant.Device{}, invalid("invalid_request", "host has at most 64 bytes, all of them printable.")
	}
	return grant.Device{Decoupled: s.decoupled(a, grant.DeviceLifetime), UserCode: grant.NewUserCode(), Host: host}, nil
}

// readDecoupled reads what is asked where nobody is in a browser yet, as an
// authorization request is read. most are the scopes that may be given that way, ""
// for all that the client has.
func (s *Server) readDecoupled(ctx context.Context, a *authRequest, f web.Form, most string) error {
	for _, step := range []func() error{
		func() error { return a.authentication(ctx, f) },
		func() error { return a.claims(f) },
		func() error { return s.targets(ctx, a, f) },
		func() error { return s.require(a) },
		func() error { return a.capped(most) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if len(a.prompts) > 0 {
		return invalid("invalid_request", "prompt means nothing here: nobody is in a browser yet.")
	}
	return nil
}

// decoupled is what was read, waiting for so long from now on.
func (s *Server) decoupled(a *authRequest, life time.Duration) grant.Decoupled {
	now := s.now().UTC().Truncate(time.Millisecond)
	return grant.Decoupled{
		Client: a.client.ID, Resources: a.in.Resources, Scopes: a.in.Scopes, Explicit: a.in.Explicit, MaxAge: a.in.MaxAge, Claims: a.in.Claims, Subject: a.in.Subject,
		ACRValues: slices.DeleteFunc(a.in.ACRValues, func(v string) bool { return s.Ladder.RungOf(v) == 0 }),
		Started:   now, Until: now.Add(life),
	}
}

// capped holds a request to the scopes that it may be given.
func (a *authRequest) capped(most string) error {
	if most == "" {
		return nil
	}
	over := without(a.in.Scopes, strings.Fields(most))
	if a.in.Explicit && len(over) > 0 {
		return invalid("invalid_scope", "The scope "+asciiOnly(over[0])+" is not given to this client this way.")
	}
	a.in.Scopes = without(a.in.Scopes, over)
	return nil
}

// askDevice stores a request: what the device polls with and what a person types,
// each as a hash. Whoever asks is a stranger as a rule, so it is paid for.
func (s *Server) askDevice(ctx context.Context, c *caller, d grant.Device, code secret.Value, network string) error {
	key := once.KeyOf(once.DeviceCode, code.Reveal())
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	about := map[string]any{"client": c.ID}
	if network != "" {
		about["network"] = network
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.DeviceStart, Kind: audit.DeviceAsked, Refs: act.Refs{Kind: policy.KindSystem, Client: c.ID}, Spend: c.spend,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{
					factor.Take{Budgets: factor.DeviceBudgets(network, c.Confidential())},
					once.Put{Value: once.Value{Purpose: once.DeviceCode, Key: key, Bound: c.ID, Data: data, MadeAt: d.Started, ExpiresAt: d.Until.Add(grant.DeviceGrace)}},
					once.Put{Value: once.Value{Purpose: once.UserCode, Key: once.KeyOf(once.UserCode, d.UserCode), Data: key[:], MadeAt: d.Started, ExpiresAt: d.Until}},
				},
				Parts: []audit.Part{{Body: about}},
			}, nil
		},
	})
	if used, ok := act.Spent(err); ok {
		return replayed(used)
	}
	if p := problem.From(err); p != nil && p.Kind == problem.Throttled {
		busy := problem.New(problem.Throttled, "too_many_requests", "Too many codes were asked for. None was made.").Because(err)
		busy.RetryAfter = p.RetryAfter
		return busy
	}
	return err
}
