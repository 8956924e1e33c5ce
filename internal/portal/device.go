package portal

import (
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	devicePath   = "/device"
	deviceAsk    = "/device/allow"
	deviceDenied = "/device/denied"
)

// deviceRoutes are the pages on which somebody signs in a device that has no
// browser (RFC 8628). Who types a code is signed in already: guesses have a name.
func (s *Server) deviceRoutes(handle func(string, web.Handler)) {
	if !s.Device {
		return
	}
	handle("GET "+devicePath, s.signedIn(s.deviceEntry))
	handle("POST "+devicePath, s.signedIn(s.deviceEntered))
	handle("GET "+deviceAsk, s.signedIn(s.deviceAsk))
	handle("POST "+deviceAsk, s.signedIn(s.deviceAnswered))
	handle("GET "+deviceDenied, s.deviceDenied)
}

// deviceEntry asks for the code. One in the address is filled in, and shown to be
// compared with the device's (RFC 8628 §3.3.1): nothing happens by opening a link.
func (s *Server) deviceEntry(w http.ResponseWriter, r *http.Request, v *visitor) error {
	m := view.DeviceCode{Form: view.Form{Action: devicePath}}
	if code, ok := grant.ReadUserCode(r.URL.Query().Get("user_code")); ok {
		m.Linked, m.Code.Value = true, grant.ShowUserCode(code)
	}
	return s.show(w, r, v, "", m)
}

// deviceEntered looks at a code that was typed, once it is paid for, and goes on as
// after an authorization request.
func (s *Server) deviceEntered(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	typed := f.Get("user_code")
	m := view.DeviceCode{Form: view.Form{Action: devicePath}}
	if err := s.payCode(r, v); err != nil {
		if until, _, ok := s.throttled(err); ok {
			m.Until, m.Code.Value = until, typed
			return s.show(w, r, v, "", m)
		}
		return err
	}
	ref, err := s.Oauth.OpenDevice(w, r, v.ses, typed)
	switch problem.CodeOf(err) {
	case "user_code_unknown", "user_code_used", "device_expired":
		if m.Code, err = wrong(typed, err); err != nil {
			return err
		}
		return s.show(w, r, v, "", m)
	}
	return orTo(w, r, after(ref, ""), err)
}

// payCode pays for a look at a code of a device, right or wrong.
func (s *Server) payCode(r *http.Request, v *visitor) error {
	_, err := s.Do.Do(r.Context(), act.Intent{
		Action: policy.DeviceOpen, Kind: audit.DeviceTried, Refs: self(v.ses, nil),
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{factor.Take{Budgets: []factor.Budget{factor.UserCodeBudget(v.person.ID)}}}}, nil
		},
	})
	return err
}

// deviceAsk shows who asks for what from where.
func (s *Server) deviceAsk(w http.ResponseWriter, r *http.Request, v *visitor) error {
	tx := r.URL.Query().Get("tx")
	p, err := s.Oauth.Pending(w, r, tx, &v.ses)
	if err != nil {
		return err
	}
	if p.Next != grant.NextDevice {
		return seeOther(w, r, after(tx, ""))
	}
	return s.showDevice(w, r, v, tx, p, view.Input{})
}

func (s *Server) showDevice(w http.ResponseWriter, r *http.Request, v *visitor, tx string, p grant.Pending, typed view.Input) error {
	d := p.Device
	m := view.DeviceAsk{
		App: app(p), Code: grant.ShowUserCode(d.UserCode), Host: d.Host, From: d.Address, Here: p.Address, At: d.Started,
		Elsewhere: p.Elsewhere, Unplaced: !grant.Placed(d.Address) || !grant.Placed(p.Address), Shows: p.App.DeviceConfirm, Typed: typed, Permissions: permissions(p),
		Form: view.Form{Action: deviceAsk, Hidden: flow(tx, "")}, Switch: &view.Form{Action: "/switch", Hidden: flow(tx, "")}, Deadline: deadline(p),
	}
	var err error
	if m.Resource, m.ResourceURL, err = s.about(r, p); err != nil {
		return err
	}
	return s.show(w, r, v, "", m)
}

// deviceAnswered is the yes or no. If more proof is needed by now, nothing is
// answered and the browser goes to give it.
func (s *Server) deviceAnswered(w http.ResponseWriter, r *http.Request, v *visitor) error {
	f, err := web.ParseForm(r, maxBody)
	if err != nil {
		return err
	}
	tx, yes := f.Get("tx"), f.Get("decision") == "allow"
	if !yes && f.Get("decision") != "deny" {
		return problem.New(problem.Invalid, "decision_missing", "Choose whether to allow the device.")
	}
	p, err := s.Oauth.AnswerDevice(w, r, v.ses, tx, yes, f.Get("typed"))
	if problem.CodeOf(err) == "confirmation_wrong" {
		e := problem.From(err)
		return s.showDevice(w, r, v, tx, p, view.Input{Error: e.Detail + " " + e.Hint})
	}
	switch {
	case err != nil:
		return err
	case !yes:
		return seeOther(w, r, deviceDenied)
	case p.Next != grant.NextDevice:
		return seeOther(w, r, after(tx, ""))
	}
	return s.show(w, r, v, "", view.Done{
		Headline: "Your device is signed in",
		Text:     "Go back to it: it goes on by itself within seconds. You can close this tab.",
		Next:     &view.Link{Text: "See what is running in your name", URL: view.PathSessions},
	})
}

// deviceDenied says that a device was told no.
func (s *Server) deviceDenied(w http.ResponseWriter, r *http.Request) error {
	return s.show(w, r, nil, "", view.Done{
		Headline: "Nothing was allowed",
		Text:     "The device was told no. If somebody sent you its code, tell an administrator: they may be trying others.",
		Next:     &view.Link{Text: "Open my account", URL: view.PathHome},
	})
}

// deviceReason is why a device's request needs proof.
const deviceReason = "Signing in a device needs you to confirm here, after it asked."

// answerBy is until when an interaction can be answered.
func answerBy(p grant.Pending) time.Time {
	switch {
	case p.Device != nil:
		return p.Device.Until
	case p.Backchannel != nil:
		return p.Backchannel.Until
	}
	return p.Started.Add(grant.InteractionLifetime)
}
