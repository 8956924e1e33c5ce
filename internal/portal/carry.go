package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// notices are what a page says of what was just done, by a fixed key: text in a
// link never becomes text on a page.
var notices = map[string]view.Notice{
	"passkey-added":      {Title: "Passkey added."},
	"app-added":          {Title: "Authenticator app added."},
	"password-set":       {Title: "Password set."},
	"renamed":            {Title: "Renamed."},
	"removed":            {Title: "Removed.", Detail: "It will never work here again."},
	"passkey-renamed":    {Title: "Passkey renamed."},
	"passkey-removed":    {Title: "Passkey removed.", Detail: "It will never work here again. You can delete it from your device too."},
	"email":              {Title: "Address saved.", Detail: "Open the link that is sent there to prove it."},
	"email-sent":         {Title: "A link is on its way.", Detail: "Open it within a day. An earlier one doesn't work any more."},
	"rollout.paused":     {Title: "Paused.", Detail: "The policies that were in force before decide for that wave, and for those behind it."},
	"rollout.resumed":    {Title: "Resumed.", Detail: "The new policies decide for that wave again, once its time has come."},
	"rollout.undone":     {Title: "Taken back.", Detail: "The policies that were in force before decide."},
	"rollout.finished":   {Title: "Finished.", Detail: "The new policies are in force for everybody."},
	"policy-signed":      {Title: "Signed.", Detail: "It can be put in force within the hour, once."},
	"policy-put":         {Title: "Put in force.", Detail: "Decisions go by it from now on; of a rollout, from its first wave on."},
	"policy-signed-only": {Tone: view.Warning, Title: "Signed, and not in force.", Detail: "It could not be put in force just now. The button below says why."},
	"policy-withdrawn":   {Title: "Withdrawn.", Detail: "Nothing comes of it any more."},
	"webhook":            {Title: "Saved.", Detail: "It holds for what happens from now on."},
	"delivery.resent":    {Title: "It is sent again.", Detail: "If it doesn't arrive, it comes back here after a day."},
	"delivery.discarded": {Title: "Discarded."},
	"factor.allowed":     {Title: "Switched on.", Detail: "People may use it from now on."},
	"factor.forbidden":   {Title: "Switched off.", Detail: "Nobody signs in with it from now on."},
	"device.managed":     {Title: "Marked.", Detail: "It counts as a managed device from now on."},
	"device.unmanaged":   {Title: "Taken back.", Detail: "It doesn't count as a managed device any more."},
	"email-none":         {Title: "Address removed."},
	"ended":              {Title: "Ended.", Detail: "It stops working everywhere within seconds."},
	"disabled":           {Title: "Disabled.", Detail: "They are signed out everywhere within seconds."},
	"enabled":            {Title: "Enabled.", Detail: "They can sign in again."},
	"withdrawn":          {Title: "Invitation withdrawn.", Detail: "Its link no longer works."},
	"recovered":          {Title: "You're back in.", Detail: "Everything else that was signed in to your account has ended."},
	"recovery-stopped":   {Title: "Stopped.", Detail: "Nothing comes of it any more."},
	"recovery-opened":    {Title: "Opened and confirmed.", Detail: "A second administrator has to confirm it, too."},
	"recovery-confirmed": {Title: "Confirmed."},
	"app-blocked":        {Title: "Blocked.", Detail: "It stops everywhere within seconds."},
	"app-judged":         {Title: "Saved."},
	"app-pinned":         {Title: "Pinned.", Detail: "Nothing is fetched for it any more."},
	"app-unpinned":       {Title: "Unpinned."},
	"app-removed":        {Title: "Removed.", Detail: "It stops everywhere within seconds."},
	"review-allowed":     {Title: "Noted: it was them.", Detail: "From there they are let in with a passkey, for as long as you said."},
	"review-refused":     {Title: "Noted: it was not them.", Detail: "Whatever was signed in for a person has ended. The secret of a service's client is yours to change."},
	"review-closed":      {Title: "Closed.", Detail: "Nothing follows."},
}

// noticeFor is the message on top of a page that an act led to.
func noticeFor(r *http.Request) *view.Notice {
	n, ok := notices[r.URL.Query().Get("done")]
	if !ok {
		return nil
	}
	return &n
}

// seeOther sends the browser to a page of ours with GET.
func seeOther(w http.ResponseWriter, r *http.Request, to string) error {
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// withQuery is a path of ours with parameters, given as name, value, name, ….
func withQuery(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return path + "?" + q.Encode()
}

// fields are the same parameters as a form posts them.
func fields(pairs ...string) []view.Field {
	var out []view.Field
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, view.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

// confirmFirst sends the browser to confirm that it is the person, before the
// act, and to a page of ours then. why is a key of ownActions, band that of risk now. Whoever comes back
// again and again without having confirmed is told to wait (mechanisms A15).
func (s *Server) confirmFirst(w http.ResponseWriter, r *http.Request, in act.Intent, dec policy.Decision, band, page, why string) error {
	c := act.Challenge{
		Person: in.Refs.Actor, Session: in.Refs.Session, Class: string(in.Action), Ref: web.RecordOf(r).Ref(), For: in.For, Device: in.From.Device, Band: band,
		Action: in.Action, From: in.From, Ask: dec.Ask,
	}
	if p := dec.Problem(s.Ladder); p != nil {
		c.Why = p.Why
	}
	err := s.Do.Challenge(r.Context(), s.Store, c)
	if p := problem.From(err); p != nil && p.Code == policy.CodeTooMany {
		throttled := problem.New(problem.Throttled, p.Code, "You were asked twice in the last five minutes to confirm that it's you for this.").Because(err)
		throttled.RetryAfter = p.RetryAfter
		return throttled
	}
	if err != nil {
		return err
	}
	return seeOther(w, r, withQuery("/step-up", "next", page, "why", why))
}

// may reports whether the act would be allowed now, before its page asks for
// anything. A sign-in that is too old for it is confirmed first: then the
// browser was sent to do so and comes back to page, and ok is false without an
// error. Whether the act is done is decided again by the act (mechanisms A13).
func (s *Server) may(w http.ResponseWriter, r *http.Request, in act.Intent, page, why string) (ok bool, err error) {
	in.For, in.From = portalItself, s.Origin(r)
	dec, facts, err := s.Do.Judge(r.Context(), in)
	switch {
	case err != nil:
		return false, err
	case dec.Outcome == policy.Allow:
		return true, nil
	case dec.Outcome == policy.StepUp:
		return false, s.confirmFirst(w, r, in, dec, facts.Risk.Band, page, why)
	case dec.Review: // for the record, and for whoever looks at it
		if in.Kind == 0 {
			in.Kind = audit.PageRefused
		}
		return false, s.Do.Refuse(r.Context(), in)
	}
	return false, dec.Problem(s.Ladder)
}

// perform carries out the act of a form. When it needs a fresher sign-in, the
// browser is sent to confirm and then to page, nothing is changed, and ok is
// false without an error.
func (s *Server) perform(w http.ResponseWriter, r *http.Request, in act.Intent, page, why string) (ok bool, err error) {
	in.For, in.From = portalItself, s.Origin(r)
	dec, facts, err := s.Do.Judge(r.Context(), in)
	if err != nil {
		return false, err
	}
	if dec.Outcome != policy.StepUp { // a sign-in that grew old is no refusal worth a record
		_, err = s.Do.Do(r.Context(), in)
	}
	if dec.Outcome == policy.StepUp || errors.Is(err, problem.StepUp) {
		return false, s.confirmFirst(w, r, in, dec, facts.Risk.Band, page, why)
	}
	return err == nil, err
}

// opened is what the pages behind a single-use link carry along. It names the
// link by its hash, and whom it makes; it is sealed for the browser that opened
// the link, so nothing of it lives here.
type opened struct {
	Link     []byte `json:"link"`
	Person   string `json:"person"`
	Subject  string `json:"sub"`
	Name     string `json:"name,omitempty"`
	Username string `json:"username,omitempty"`
	// Of who comes in with a password and an app: the password's factor in its
	// sealed form, and the seed that the app was shown.
	PasswordID string `json:"pw_id,omitempty"`
	Password   []byte `json:"pw,omitempty"`
	Seed       []byte `json:"seed,omitempty"`
}

func (o opened) key() (k once.Key) {
	copy(k[:], o.Link)
	return k
}

func (s *Server) seal(w http.ResponseWriter, r *http.Request, purpose string, o opened) (string, error) {
	b, err := s.Binding(w, r)
	if err != nil {
		return "", err
	}
	return s.Sealed.SealState(purpose, b, o)
}

// unseal opens what seal made in this browser; ok is false for anything else.
func (s *Server) unseal(w http.ResponseWriter, r *http.Request, purpose, tx string) (o opened, ok bool, err error) {
	b, err := s.Binding(w, r)
	if err != nil {
		return o, false, err
	}
	err = s.Sealed.OpenState(purpose, b, tx, &o)
	if problem.Refusal(err) {
		return opened{}, false, nil
	}
	return o, err == nil, err
}

// withdrawn is what spent an invitation that nobody accepted.
const withdrawn = "withdrawn"

// linkState says whether a stored link can still be spent at now, else why not.
func linkState(v once.Value, now time.Time) (state view.LinkState, at time.Time, ok bool) {
	switch {
	case v.Ref == withdrawn:
		return view.LinkWithdrawn, time.Time{}, false
	case !v.UsedAt.IsZero():
		return view.LinkUsed, v.UsedAt, false
	case !now.Before(v.ExpiresAt):
		return view.LinkExpired, v.ExpiresAt, false
	case v.Misses >= once.MaxMisses:
		return view.LinkWithdrawn, time.Time{}, false
	}
	return 0, time.Time{}, true
}

// value reads a link's stored value; ok is false if there is none.
func (s *Server) value(ctx context.Context, p once.Purpose, k once.Key) (v once.Value, ok bool, err error) {
	v, err = s.Store.OnceValue(ctx, p, k)
	var gone *once.Gone
	if errors.As(err, &gone) {
		return v, false, nil
	}
	return v, err == nil, err
}

// lost reports whether an act failed because its link was spent or is gone.
func lost(err error, p once.Purpose) bool {
	var used *once.Used
	var gone *once.Gone
	return errors.As(err, &used) && used.Purpose == p || errors.As(err, &gone) && gone.Purpose == p
}

// passkeyName reads what somebody calls a passkey: 1 to 60 characters, none of
// them a control character.
func passkeyName(text string) (string, error) {
	name, err := account.CheckName(text)
	if err != nil || len([]rune(name)) > 60 {
		return "", problem.New(problem.Invalid, "passkey_name_invalid", "A passkey's name has 1 to 60 characters.").
			WithHint("Change the name and press the button again.")
	}
	return name, nil
}

// wrong is what a field shows of a problem; other errors are the request's.
func wrong(value string, err error) (view.Input, error) {
	in := view.Input{Value: value}
	if err == nil {
		return in, nil
	}
	if !problem.Refusal(err) {
		return in, err
	}
	in.Error = problem.From(err).Detail
	return in, nil
}

// sentence is a line of the log as a sentence.
func sentence(text string) string {
	if r, n := utf8.DecodeRuneInString(text); n > 0 {
		text = string(unicode.ToUpper(r)) + text[n:]
	}
	return strings.TrimSuffix(text, ".") + "."
}

// enrolOptions answers with the creation options for a passkey of h, bound to
// this browser, the page's purpose and the person.
func (s *Server) enrolOptions(w http.ResponseWriter, r *http.Request, purpose, person string, h factor.Holder) error {
	bound, err := s.bindTo(w, r, purpose, person)
	if err != nil {
		return err
	}
	o, err := s.Ceremony.EnrolOptions(h, bound, s.now())
	if err != nil {
		return err
	}
	return publicKey(w, o)
}
