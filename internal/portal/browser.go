package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/session"
)

// The cookies. Under https they carry __Host-, which pins them to this host,
// path / and Secure; loopback development has no https.
const (
	cookieSession = "cs_session"
	cookieDevice  = "cs_device"
	cookieBrowser = "cs_browser"
)

// deviceLifetime is how long a browser is remembered as the same device.
const deviceLifetime = 400 * 24 * time.Hour

func (s *Server) cookieName(name string) string {
	if strings.HasPrefix(s.Issuer, "https:") {
		return "__Host-" + name
	}
	return name
}

func (s *Server) setCookie(w http.ResponseWriter, name string, v secret.Value, life time.Duration) {
	c := &http.Cookie{
		Name: s.cookieName(name), Value: v.Reveal(), Path: "/", HttpOnly: true,
		Secure: strings.HasPrefix(s.Issuer, "https:"), SameSite: http.SameSiteLaxMode,
	}
	if life > 0 {
		c.MaxAge = int(life.Seconds())
	}
	http.SetCookie(w, c)
}

func (s *Server) clearCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(name), Path: "/", HttpOnly: true, MaxAge: -1,
		Secure: strings.HasPrefix(s.Issuer, "https:"), SameSite: http.SameSiteLaxMode,
	})
}

// cookie reads a cookie of ours; zero if there is none, or several (somebody
// tossed one in), or it is malformed.
func (s *Server) cookie(r *http.Request, name string, kind secret.Kind) secret.Value {
	all := r.CookiesNamed(s.cookieName(name))
	if len(all) != 1 {
		return secret.Value{}
	}
	v, err := secret.Read(kind, all[0].Value)
	if err != nil {
		return secret.Value{}
	}
	return v
}

// Binding is a stable name of the browser, for what must come back to it.
func (s *Server) Binding(w http.ResponseWriter, r *http.Request) (string, error) {
	v := s.cookie(r, cookieBrowser, secret.Browser)
	if v.IsZero() {
		v = secret.New(secret.Browser)
		s.setCookie(w, cookieBrowser, v, 0)
		r.AddCookie(&http.Cookie{Name: s.cookieName(cookieBrowser), Value: v.Reveal()})
	}
	h := v.Hash()
	return string(h[:]), nil
}

// Session is the usable session of the browser. Liveness of what it descends
// from is judged by each act.
func (s *Server) Session(r *http.Request) (session.Session, bool, error) {
	v := s.cookie(r, cookieSession, secret.Session)
	if v.IsZero() {
		return session.Session{}, false, nil
	}
	ses, err := s.Store.SessionBySecret(r.Context(), v.Hash())
	switch {
	case problem.Refusal(err):
		return session.Session{}, false, nil
	case err != nil:
		return session.Session{}, false, err
	}
	now := s.now()
	if !ses.Usable(now) {
		return session.Session{}, false, nil
	}
	dec, _, err := s.Do.Judge(r.Context(), act.Intent{Action: policy.SelfRead, Refs: self(ses, nil)})
	if err != nil && !problem.Refusal(err) {
		return session.Session{}, false, err
	}
	if err != nil || dec.Outcome != policy.Allow {
		return session.Session{}, false, nil
	}
	if now.Sub(ses.SeenAt) > session.TouchInterval {
		s.touch(r.Context(), ses, now)
	}
	return ses, true, nil
}

// touch remembers that the session is in use. It is not worth failing a request.
func (s *Server) touch(ctx context.Context, ses session.Session, now time.Time) {
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.SessionSeen, Kind: audit.SessionSeen, Refs: act.Refs{Kind: policy.KindSystem, Target: []string{ses.ID}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{session.Touch{ID: ses.ID, SeenAt: now, IdleUntil: now.Add(session.IdleLifetime)}},
				Parts:   []audit.Part{{Person: ses.Person, Body: map[string]any{"session": ses.ID}}},
			}, nil
		},
	})
	_ = err
}

// self are the references of an act on one's own account.
func self(ses session.Session, target []string) act.Refs {
	return act.Refs{Kind: policy.KindPerson, Actor: ses.Person, Session: ses.ID, Owner: ses.Person, Target: target}
}

// Origin is what the risk of what somebody does in this browser is judged by. The
// device is the one of its cookie; whoever took the session's alone shows none.
func (s *Server) Origin(r *http.Request) act.Origin {
	o := act.Origin{Asked: true, Shown: true, Network: grant.NetworkOf(s.ClientAddr(r))}
	o.Agent = agentOf(r)
	if dev := s.cookie(r, cookieDevice, secret.Device); !dev.IsZero() {
		if d, err := s.Store.DeviceBySecret(r.Context(), dev.Hash()); err == nil { // else it shows none
			o.Device = d.ID
		}
	}
	return o
}

// arrival is the same of a session that is about to be opened.
func arrival(r *http.Request, open session.Open) act.Origin {
	return act.Origin{Asked: true, SignIn: true, Shown: true, Agent: agentOf(r), Network: open.Network, Device: open.Device, New: open.NewDevice != nil}
}

// visitor is a signed-in person.
type visitor struct {
	ses    session.Session
	person account.Person
	groups []group.Group
	admin  bool
	helper bool // may give temporary passes
}

// errSignedOut sends a page's visitor to sign in first.
var errSignedOut = problem.New(problem.Unauthenticated, "signed_out", "Your session has ended, so nothing was changed.").
	WithHint("Sign in again and you'll come back to this page.")

// visitor gives who is signed in; errSignedOut if nobody is.
func (s *Server) visitor(r *http.Request) (*visitor, error) {
	ses, ok, err := s.Session(r)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errSignedOut
	}
	v := &visitor{ses: ses}
	if v.person, err = s.Store.Person(r.Context(), ses.Person); err != nil {
		return nil, err
	}
	if v.groups, err = s.Store.GroupsOf(r.Context(), ses.Person); err != nil {
		return nil, err
	}
	v.admin = slices.ContainsFunc(v.groups, func(g group.Group) bool { return g.Name == group.Administrators })
	v.helper = v.admin || slices.ContainsFunc(v.groups, func(g group.Group) bool { return g.Name == group.Helpers })
	return v, nil
}

// signedIn wraps a page that needs somebody signed in: others go to sign in and
// come back. A form is not repeated for them.
func (s *Server) signedIn(h func(http.ResponseWriter, *http.Request, *visitor) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := s.visitor(r)
		if errors.Is(err, errSignedOut) && r.Method == http.MethodGet {
			http.Redirect(w, r, "/signin?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return nil
		}
		if err != nil {
			return err
		}
		return h(w, r, v)
	}
}

// localPath is next if it is a path on this server, else fallback: no page sends
// anybody elsewhere at a parameter's word.
func localPath(next, fallback string) string {
	u, err := url.Parse(next)
	if err != nil || next == "" || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") ||
		strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return fallback
	}
	return next
}

// Go sends the browser to the page for what is next of an interaction.
func (s *Server) Go(w http.ResponseWriter, r *http.Request, next grant.Next, reference string) {
	page := map[grant.Next]string{
		grant.NextSignIn: "/signin", grant.NextStepUp: "/step-up", grant.NextConsent: "/consent",
		grant.NextImpossible: "/step-up", grant.NextWrongUser: "/step-up", grant.NextDenied: "/consent",
		grant.NextDevice: deviceAsk, grant.NextRequest: requestAsk, grant.NextRefused: requestDenied, grant.NextDone: deviceDenied,
	}[next]
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, page+"?tx="+url.QueryEscape(reference), http.StatusSeeOther)
}

// Attainable says which asks a person can meet with the factors they have
// (mechanisms A9): only ever shown to themselves.
func (s *Server) Attainable(ctx context.Context, person string) (func(assurance.Ask) bool, error) {
	all, err := s.Store.FactorsOf(ctx, person)
	if err != nil {
		return nil, err
	}
	allowed, err := s.Store.Allowed(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := s.Store.PasskeysOf(ctx, person)
	if err != nil {
		return nil, err
	}
	return factor.Can(factor.Best(all, keys, allowed, s.now())), nil
}

// holder is for whom a passkey ceremony runs.
func (s *Server) holder(ctx context.Context, p account.Person) (factor.Holder, error) {
	keys, err := s.Store.PasskeysOf(ctx, p.ID)
	return factor.Holder{Handle: factor.HandleOf(p.Subject), Username: p.Username, Name: p.Name, Passkeys: keys}, err
}

// newSession prepares a session for a person in this browser and sets its
// cookies once it is committed: finish must be called then.
func (s *Server) newSession(r *http.Request, person string, proofs []assurance.Proof) (open session.Open, finish func(http.ResponseWriter), err error) {
	now := s.now()
	key := secret.New(secret.Session)
	open = session.Open{
		Session: session.Session{
			ID: id.New(id.Session), Person: person, Proofs: proofs, Network: grant.NetworkOf(s.ClientAddr(r)),
			UserAgent: capped(r.UserAgent(), 256), CreatedAt: now, SeenAt: now,
			ExpiresAt: now.Add(session.Lifetime), IdleUntil: now.Add(session.IdleLifetime),
		},
		SecretHash: key.Hash(),
	}
	for _, p := range proofs {
		if strings.HasPrefix(p.Credential, id.Credential) {
			open.Credentials = append(open.Credentials, p.Credential)
		}
	}
	dev := s.cookie(r, cookieDevice, secret.Device)
	known := false
	if !dev.IsZero() {
		d, err := s.Store.DeviceBySecret(r.Context(), dev.Hash())
		if err != nil && !problem.Refusal(err) {
			return open, nil, err
		}
		if known = err == nil && d.Node.Live(); known {
			open.Device = d.ID
		}
	}
	if !known {
		dev = secret.New(secret.Device)
		open.NewDevice = &session.Device{ID: id.New(id.Device), Label: browserName(r.UserAgent()), CreatedAt: now}
		open.DeviceHash = dev.Hash()
		open.Device = open.NewDevice.ID
	}
	return open, func(w http.ResponseWriter) {
		s.setCookie(w, cookieSession, key, session.Lifetime)
		s.setCookie(w, cookieDevice, dev, deviceLifetime)
	}, nil
}

func capped(s string, n int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// aBrowser is one that does not say what it is.
const aBrowser = "A browser"

// browserName says a user agent in two words: "Firefox on Linux". It is a label
// for people, and a habit for risk; whoever sends it may say what they like.
func browserName(ua string) string {
	pick := func(pairs ...string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if strings.Contains(ua, pairs[i]) {
				return pairs[i+1]
			}
		}
		return ""
	}
	app := pick("Edg/", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "Chrome/", "Chrome", "Safari/", "Safari")
	system := pick("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS X", "macOS", "CrOS", "ChromeOS", "Linux", "Linux")
	switch {
	case app != "" && system != "":
		return app + " on " + system
	case app != "":
		return app
	}
	return aBrowser
}

// agentOf is the kind of browser that asks, as risk compares it. One that does not say is a
// kind as well: whoever copies cookies into a program of their own is noticed by that.
func agentOf(r *http.Request) string {
	if name := browserName(r.UserAgent()); name != aBrowser {
		return name
	}
	return "an unknown kind of browser"
}

// bindTo is what a challenge is bound to: the browser, and what else must be the
// same when it comes back.
func (s *Server) bindTo(w http.ResponseWriter, r *http.Request, parts ...string) (string, error) {
	b, err := s.Binding(w, r)
	if err != nil {
		return "", err
	}
	k := once.KeyOf(once.Interaction, append([]string{b}, parts...)...)
	return string(k[:]), nil
}
