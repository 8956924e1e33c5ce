package oauth

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
)

var (
	errUserCode = problem.New(problem.Invalid, "user_code_unknown", "That code isn't right. Codes look like 7Q4K-M2PX.").
			WithHint("Type the one that your device shows now.")
	errUserCodeUsed = problem.New(problem.Conflict, "user_code_used", "This code was used already.").
			WithHint("Run the command again, or start again on your device: it shows a new code.")
	errNotNear = problem.New(problem.Denied, "device_elsewhere", "Your organisation allows sign-in by code only where the device and this browser are on the same network.").
			WithHint("If you did not start this on a device of yours, tell an administrator: somebody may have sent you their code.")
)

// deviceExpired says that a code can be answered no more.
func deviceExpired(d grant.Decoupled) *problem.Error {
	return problem.Newf(problem.Invalid, "device_expired", "This code expired at %s UTC.", d.Until.UTC().Format("15:04")).
		WithHint("Run the command again, or start again on your device: it shows a new code.")
}

// OpenDevice is somebody's entering the code of a device: from then on nobody
// else can answer it. It gives the reference with which the browser goes on, as
// after an authorization request.
func (s *Server) OpenDevice(w http.ResponseWriter, r *http.Request, ses session.Session, typed string) (string, error) {
	ctx := r.Context()
	code, ok := grant.ReadUserCode(typed)
	if !ok {
		return "", errUserCode
	}
	spend := once.Spend{Purpose: once.UserCode, Key: once.KeyOf(once.UserCode, code)}
	v, err := s.State.OnceValue(ctx, once.UserCode, spend.Key)
	if isGone(err) {
		s.Do.Missed(act.Wrong{Way: act.WayUserCode, Whose: ses.Person}, s.networkOf(r), s.now())
	}
	if err != nil {
		return "", oneOf(err, errUserCode)
	}
	key := once.Key(v.Data)
	var d grant.Device
	if _, err := s.remembered(ctx, once.DeviceCode, key, &d); err != nil {
		return "", oneOf(err, errUserCode)
	}
	if !s.now().Before(d.Until) || !s.now().Before(v.ExpiresAt) {
		return "", deviceExpired(d.Decoupled)
	}
	if s.DeviceNear && grant.Elsewhere(d.Address, s.ClientAddr(r)) {
		return "", errNotNear
	}
	a := &authRequest{in: deviceInteraction(d)}
	if err := s.forOne(ctx, a, ses.Person); err != nil {
		return "", err
	}
	if v.UsedAt.IsZero() {
		err = s.claimDevice(r, ses, d, key, spend)
	} else {
		err = s.claimed(ctx, ses, key)
	}
	if err != nil {
		return "", err
	}
	binding, err := s.Browser.Binding(w, r)
	if err != nil {
		return "", err
	}
	return s.Keys.SealState(statePurpose, binding, carry(a.in))
}

// deviceInteraction is a device's request as it waits in a browser: as an
// authorization request does, but with an answer that goes to the device. Only a
// proof made after the device asked counts (RFC 10027: a fresh sign-in).
func deviceInteraction(d grant.Device) grant.Interaction {
	in := decoupledInteraction(d.Decoupled)
	in.Device = &d
	return in
}

func decoupledInteraction(d grant.Decoupled) grant.Interaction {
	return grant.Interaction{
		Client: d.Client, JKT: d.JKT, Resources: d.Resources, Scopes: d.Scopes, Explicit: d.Explicit, ACRValues: d.ACRValues, MaxAge: d.MaxAge, Claims: d.Claims, Subject: d.Subject,
		Fresh: true, Started: d.Started,
	}
}

// deviceKey is the key of the values of a request that a browser holds.
func (s *Server) deviceKey(ctx context.Context, d grant.Device) (once.Key, error) {
	v, err := s.State.OnceValue(ctx, once.UserCode, once.KeyOf(once.UserCode, d.UserCode))
	if err != nil {
		return once.Key{}, oneOf(err, deviceExpired(d.Decoupled))
	}
	return once.Key(v.Data), nil
}

func (s *Server) claimDevice(r *http.Request, ses session.Session, d grant.Device, key once.Key, spend once.Spend) error {
	data, err := json.Marshal(grant.Opened{Person: ses.Person, Session: ses.ID, Confirm: grant.NewConfirm()})
	if err != nil {
		return err
	}
	about := map[string]any{"session": ses.ID, "client": d.Client}
	if d.Address != "" {
		about["network"] = d.Address
	}
	_, err = s.Do.Do(r.Context(), act.Intent{
		Action: policy.DeviceOpen, Kind: audit.DeviceOpened, Spend: []once.Spend{spend}, From: s.Browser.Origin(r),
		Refs: act.Refs{Kind: policy.KindPerson, Actor: ses.Person, Session: ses.ID, Owner: ses.Person, Client: d.Client},
		Changes: func(f *act.Facts, _ policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{once.Put{Value: once.Value{
					Purpose: once.DeviceOpened, Key: key, Bound: ses.Person, Data: data, MadeAt: f.Input.Context.Now, ExpiresAt: d.Until,
				}}},
				Parts: []audit.Part{{Person: ses.Person, Body: about}},
				Asks:  []act.Prompt{{Person: ses.Person, Ref: devicePrompt(key), Until: d.Until}},
			}, nil
		},
	})
	if _, used := act.Spent(err); used {
		return s.claimed(r.Context(), ses, key)
	}
	return oneOfGone(err, deviceExpired(d.Decoupled))
}

// devicePrompt names what a person is asked by a device.
func devicePrompt(key once.Key) string {
	return "device " + base64.RawURLEncoding.EncodeToString(key[:])
}

// claimed lets the person who entered a code go on with it, and nobody else.
func (s *Server) claimed(ctx context.Context, ses session.Session, key once.Key) error {
	v, err := s.State.OnceValue(ctx, once.DeviceOpened, key)
	if err != nil {
		return oneOf(err, errUserCodeUsed)
	}
	if v.Bound != ses.Person || !v.UsedAt.IsZero() || v.Misses >= once.MaxMisses {
		return errUserCodeUsed
	}
	return nil
}

// oneOfGone is p in the place of *once.Gone.
func oneOfGone(err error, p *problem.Error) error {
	if isGone(err) {
		return p.Because(err)
	}
	return err
}

// deviceNext judges a device's request that this person has proved enough for:
// they are always asked, whatever they agreed to before.
func (s *Server) deviceNext(ctx context.Context, a *authRequest, in policy.Input, p *grant.Pending) error {
	key, err := s.deviceKey(ctx, *a.in.Device)
	if err != nil {
		return err
	}
	v, err := s.State.OnceValue(ctx, once.DeviceOpened, key)
	switch {
	case err != nil:
		return oneOf(err, deviceExpired(a.in.Device.Decoupled))
	case !v.UsedAt.IsZero():
		return errDone
	case v.Bound != in.Principal.ID || v.Misses >= once.MaxMisses:
		return errUserCodeUsed
	}
	p.Next = grant.NextDevice
	return s.question(ctx, a, in, p)
}

// errDone says that another window, or another browser, was first.
var errDone = invalid("interaction_done", "This request was already completed in another window.")

// wrongConfirm says that what was typed is not what the device shows.
func wrongConfirm(left int) *problem.Error {
	p := problem.New(problem.Invalid, "confirmation_wrong", "That is not the code that the device shows now.")
	if left <= 0 {
		return p.WithHint("It was wrong too often, so nothing comes of this request any more. Start again on your device.")
	}
	return p.WithHint(fmt.Sprintf("Tries left: %d.", left))
}

// AnswerDevice is a person's yes or no to a device. typed is what they were asked
// to read from it where it is elsewhere. If something else is next, nothing
// happens and it is said.
func (s *Server) AnswerDevice(w http.ResponseWriter, r *http.Request, ses session.Session, ref string, yes bool, typed string) (grant.Pending, error) {
	a, err := s.open(w, r, ref)
	if err != nil {
		return grant.Pending{}, err
	}
	if a.in.Device == nil {
		return grant.Pending{}, invalid("transaction_unknown", "This address belongs to another page.").WithHint("Start again from the app you came from.")
	}
	p, err := s.judge(r, a, &ses, ref)
	if err != nil {
		return p, err
	}
	s.place(r, &p)
	switch {
	case !yes:
		return p, s.denyDevice(r.Context(), a, ses)
	case p.Next != grant.NextDevice:
		return p, nil
	case s.DeviceNear && p.Elsewhere:
		return p, errNotNear
	}
	key, err := s.deviceKey(r.Context(), *a.in.Device)
	if err != nil {
		return p, err
	}
	if p.Elsewhere {
		if err := s.confirm(r.Context(), a, ses, key, typed); err != nil {
			return p, err
		}
	}
	return s.approve(r, a, ses, p, key, act.Effect{
		Parts:   []audit.Part{{Person: ses.Person, Body: s.aboutDevice(a, ses, p)}},
		Answers: []act.Answer{{Person: ses.Person, Ref: devicePrompt(key)}},
	})
}

// place says where the browser is, against the device.
func (s *Server) place(r *http.Request, p *grant.Pending) {
	if p.Device == nil {
		return
	}
	addr := s.ClientAddr(r)
	p.Elsewhere = grant.Elsewhere(p.Device.Address, addr)
	if addr.IsValid() {
		p.Address = addr.Unmap().WithZone("").String()
	}
}

// confirm compares what was typed with what the device shows: the code that it was
// told after the browser had come, or its own once more where it cannot show one.
func (s *Server) confirm(ctx context.Context, a *authRequest, ses session.Session, key once.Key, typed string) error {
	var o grant.Opened
	v, err := s.remembered(ctx, once.DeviceOpened, key, &o)
	if err != nil {
		return oneOf(err, deviceExpired(a.in.Device.Decoupled))
	}
	want, got := a.in.Device.UserCode, ""
	if a.client.DeviceConfirm {
		want = o.Confirm
		got = strings.Map(func(r rune) rune {
			if r < '0' || r > '9' {
				return -1
			}
			return r
		}, typed[:min(len(typed), 64)])
	} else {
		got, _ = grant.ReadUserCode(typed)
	}
	if hmac.Equal([]byte(got), []byte(want)) {
		return nil
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.CodeMissed, Kind: audit.DeviceTried, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{once.Miss{Purpose: once.DeviceOpened, Key: key}},
				Parts:   []audit.Part{{Person: ses.Person, Body: map[string]any{"session": ses.ID, "client": a.client.ID, "why": "the confirmation code was wrong"}}},
			}, nil
		},
	})
	if err != nil {
		return err
	}
	return wrongConfirm(once.MaxMisses - v.Misses - 1)
}

// aboutDevice is what the record says of an answer.
func (s *Server) aboutDevice(a *authRequest, ses session.Session, p grant.Pending) map[string]any {
	return withSaid(map[string]any{"session": ses.ID, "client": a.client.ID}, map[string]string{
		"host": a.in.Device.Host, "from": a.in.Device.Address, "browser": p.Address,
	})
}

// denyDevice tells the device no.
func (s *Server) denyDevice(ctx context.Context, a *authRequest, ses session.Session) error {
	key, err := s.deviceKey(ctx, *a.in.Device)
	if err != nil {
		return err
	}
	if err := s.claimed(ctx, ses, key); err != nil {
		return err
	}
	return s.deny(ctx, a.answering(), ses, key, act.Intent{Kind: audit.DeviceDenied}, act.Effect{
		Parts:   []audit.Part{{Person: ses.Person, Body: s.aboutDevice(a, ses, grant.Pending{})}},
		Answers: []act.Answer{{Person: ses.Person, Ref: devicePrompt(key), Denied: true}},
	})
}
