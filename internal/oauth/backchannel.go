package oauth

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/web"
)

const backchannelPath = "/oauth/backchannel_authentication"

// maxNotificationToken is how long a client_notification_token is at most (CIBA Core
// §7.1).
const maxNotificationToken = 1024

// pingPurpose types the sealed form of what a client is told with.
const pingPurpose = "backchannel_ping"

// backchannelAnswer is CIBA Core §7.3, with the number that is ours.
type backchannelAnswer struct {
	AuthReqID string `json:"auth_req_id"`
	ExpiresIn int64  `json:"expires_in"`
	Interval  int64  `json:"interval"`
	Number    string `json:"matching_number,omitempty"` // docs/divergences.md
}

// backchannel is the backchannel authentication endpoint (CIBA Core §7).
func (s *Server) backchannel(w http.ResponseWriter, r *http.Request) error {
	out, err := s.startBackchannel(w, r)
	if err != nil {
		s.refusedQuietly(r, policy.CIBAStart, err)
		return renderError(w, r, err)
	}
	return web.JSON(w, http.StatusOK, out)
}

func (s *Server) startBackchannel(w http.ResponseWriter, r *http.Request) (*backchannelAnswer, error) {
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
	if !c.Allows(client.CIBA) || c.Source != "" || !c.Confidential() || c.FAPI() { // never one that registered itself
		return nil, invalid("unauthorized_client", "The client is not registered for backchannel authentication by an administrator.")
	}
	if f, err = s.signedBackchannel(ctx, c, f); err != nil {
		return nil, err
	}
	key, err := s.dpop(w, r, "")
	if err != nil {
		return nil, err
	}
	a := &authRequest{client: c.Client}
	b, err := s.readBackchannel(ctx, a, f)
	if err != nil {
		return nil, err
	}
	if addr := s.ClientAddr(r); addr.IsValid() {
		b.Address = addr.Unmap().WithZone("").String()
	}
	if key != nil {
		b.JKT = key.jkt
		c.spend = append(c.spend, key.spend)
	}
	who, err := s.hinted(ctx, a, f)
	if err != nil {
		return nil, err
	}
	code := secret.New(secret.AuthRequest)
	if c.DeliveryMode == client.Ping {
		if b.Ping, err = s.Keys.SealState(pingPurpose, c.ID, ping{ID: code.Reveal(), Token: f.Get("client_notification_token")}); err != nil {
			return nil, err
		}
	}
	if err := s.askPerson(ctx, c, b, who, code); err != nil {
		return nil, err
	}
	return &backchannelAnswer{
		AuthReqID: code.Reveal(), ExpiresIn: int64(b.Until.Sub(b.Started).Seconds()), Interval: int64(grant.DeviceInterval.Seconds()), Number: b.Number,
	}, nil
}

// authenticationOnly are the parameters that stand beside a signed request: those of
// client authentication (CIBA Core §7.1.1).
var authenticationOnly = []string{"request", "client_id", "client_secret", "client_assertion", "client_assertion_type"}

// signedBackchannel gives the parameters of a request: those that are signed, and then
// there are no others.
func (s *Server) signedBackchannel(ctx context.Context, c *caller, f web.Form) (web.Form, error) {
	text := f.Get("request")
	switch {
	case f.Has("request_uri"):
		return f, invalid("invalid_request", "A backchannel authentication request is sent by value: request_uri is not accepted.")
	case text == "" && (c.RequestAlg != "" || c.RequireSigned):
		return f, invalid("invalid_request", "This client's requests must be signed: send request (CIBA Core section 7.1.1).")
	case text == "":
		return f, nil
	}
	for _, name := range f.Names() {
		if !slices.Contains(authenticationOnly, name) {
			return f, invalid("invalid_request", "Beside a signed request there is nothing but client authentication (CIBA Core section 7.1.1).")
		}
	}
	want := jose.RequestObjectWant{Backchannel: true}
	if c.RequestAlg != "" {
		want.Algorithms = []string{c.RequestAlg}
	}
	f, o, err := s.signedParameters(ctx, c.Client, text, want)
	if err != nil {
		return f, invalid("invalid_request", "The signed request is not valid (CIBA Core section 7.1.1).").Because(err)
	}
	if s.lost(o.IssuedAt) {
		return f, invalid("invalid_request", "This signed request is from before the server was restored: sign it anew.").Because(errLost)
	}
	c.spend = append(c.spend, once.Spend{
		Purpose: once.Backchannel, Key: once.KeyOf(once.Backchannel, "jti", c.ID, o.JTI), Mark: true, Until: o.ExpiresAt.Add(time.Minute),
	})
	return f, nil
}

// readBackchannel reads what a client asks for (CIBA Core §7.1), but for whom.
func (s *Server) readBackchannel(ctx context.Context, a *authRequest, f web.Form) (b grant.Backchannel, err error) {
	if err := s.readDecoupled(ctx, a, f, a.client.BackchannelScope); err != nil {
		return b, err
	}
	if err := s.details(ctx, a, f); err != nil {
		return b, err
	}
	life, ok := grant.BackchannelLife(f.Get("requested_expiry"))
	token := f.Get("client_notification_token")
	switch {
	case !slices.Contains(a.in.Scopes, "openid"):
		return b, invalid("invalid_request", "scope has to name openid (CIBA Core section 7.1).")
	case !ok:
		return b, invalid("invalid_request", "requested_expiry is a number of seconds greater than 0.")
	case f.Has("user_code"):
		return b, invalid("invalid_request", "user_code is not used here: nobody has one.")
	case a.client.DeliveryMode == client.Ping && !notificationToken(token):
		return b, invalid("invalid_request", "client_notification_token is missing, longer than 1024 characters, or not a bearer token (RFC 6750 section 2.1).")
	case f.Has("binding_message") && !grant.CheckBinding(f.Get("binding_message")):
		return b, invalid("invalid_binding_message", "binding_message has 1 to 60 letters and digits, with single spaces and the signs . , : ; - # * + ( ) ! ? % & = ' between.")
	case !f.Has("binding_message") && !a.client.NumberMatching:
		return b, invalid("invalid_binding_message", "Send a binding_message: this client shows no number, so there is nothing that its person could compare.")
	}
	b = grant.Backchannel{Decoupled: s.decoupled(a, life), Details: a.in.Details, Binding: f.Get("binding_message")}
	if a.client.NumberMatching {
		b.Number = grant.NewNumber()
	}
	return b, nil
}

// notificationToken reports whether a text can be sent as a bearer token.
func notificationToken(text string) bool {
	core := strings.TrimRight(text, "=")
	for i := range len(core) {
		c := core[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~+/", c) >= 0) {
			return false
		}
	}
	return core != "" && len(text) <= maxNotificationToken
}

// hinted is whom a hint names. bound is what their requests are kept under: their id,
// or what stands for a name that nobody has, so that asking for either does the same.
type hinted struct {
	person string // "" if there is nobody
	bound  string
}

// hinted finds whom a request names (CIBA Core §7.1): by exactly one hint. Whether
// there is anybody is not told.
func (s *Server) hinted(ctx context.Context, a *authRequest, f web.Form) (hinted, error) {
	n := 0
	for _, name := range []string{"login_hint", "id_token_hint", "login_hint_token"} {
		if f.Has(name) {
			n++
		}
	}
	if n != 1 {
		return hinted{}, invalid("invalid_request", "Say by exactly one of login_hint and id_token_hint who is to be asked (CIBA Core section 7.1).")
	}
	var p account.Person
	var err error
	name := a.in.LoginHint
	switch {
	case f.Has("login_hint_token"):
		return hinted{}, invalid("invalid_request", "login_hint_token is not accepted: use login_hint or id_token_hint.")
	case name != "" && a.in.Subject != "": // whoever is asked could see it, and neither answer nor report it
		return hinted{}, invalid("invalid_request", "claims asks for a subject: name them by id_token_hint, and not by login_hint.")
	case name != "":
		p, err = s.People.PersonByUsername(ctx, name)
	default:
		if _, pairwise := a.client.Sector(); pairwise {
			return hinted{}, invalid("invalid_request", "The subjects of this client lead back to nobody: use login_hint.")
		}
		asked := a.in.Subject
		if err := s.hint(a, f); err != nil {
			return hinted{}, err
		}
		if asked != "" && asked != a.in.Subject {
			return hinted{}, invalid("invalid_request", "claims asks for another subject than id_token_hint names.")
		}
		name = a.in.Subject
		p, err = s.People.PersonBySubject(ctx, name)
	}
	switch {
	case err == nil:
		return hinted{p.ID, p.ID}, nil
	case !problem.Refusal(err):
		return hinted{}, err
	}
	nobody := once.KeyOf(once.BackchannelAsked, "nobody", strings.ToLower(name))
	return hinted{bound: "nobody " + hex.EncodeToString(nobody[:16])}, nil
}

// askPerson stores a request: what the client polls with, and what its person
// answers. A request to nobody is stored like any other, and is never answered.
func (s *Server) askPerson(ctx context.Context, c *caller, b grant.Backchannel, who hinted, code secret.Value) error {
	if err := s.mayAsk(ctx, c.Client, who, b.Started); err != nil {
		return err
	}
	key := once.KeyOf(once.Backchannel, code.Reveal())
	asked, err := json.Marshal(b)
	if err != nil {
		return err
	}
	polled, err := json.Marshal(grant.Backchannel{Decoupled: b.Decoupled, Ping: b.Ping})
	if err != nil {
		return err
	}
	var prompts []act.Prompt
	about := map[string]any{"client": c.ID}
	if who.person != "" { // of a request to nobody the record has the client alone
		prompts = []act.Prompt{{Person: who.person, Ref: requestPrompt(key), Until: b.Until}}
		about = withSaid(about, map[string]string{"network": b.Address, "binding": b.Binding})
	}
	_, err = s.Do.Do(ctx, act.Intent{
		Action: policy.CIBAStart, Kind: audit.CIBAAsked, Refs: act.Refs{Kind: policy.KindSystem, Client: c.ID}, Spend: c.spend,
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{
					factor.Take{Budgets: factor.AskBudgets(who.bound, c.ID)},
					once.Put{Value: once.Value{Purpose: once.Backchannel, Key: key, Bound: c.ID, Data: polled, MadeAt: b.Started, ExpiresAt: b.Until.Add(grant.DeviceGrace)}},
					once.Put{Value: once.Value{Purpose: once.BackchannelAsked, Key: key, Bound: who.bound, Data: asked, MadeAt: b.Started, ExpiresAt: b.Until}},
				},
				Parts: []audit.Part{{Person: who.person, Body: about}}, Asks: prompts,
			}, nil
		},
	})
	if used, ok := act.Spent(err); ok {
		if used.Purpose == once.Backchannel {
			return invalid("invalid_request", "This signed request was sent before: each needs a jti of its own.").Because(used)
		}
		return replayed(used)
	}
	if p := problem.From(err); p != nil && p.Kind == problem.Throttled {
		return tooManyAsked(p.RetryAfter).Because(err)
	}
	return err
}

// requestPrompt names what a person is asked over the backchannel.
func requestPrompt(key once.Key) string { return "ciba " + hex.EncodeToString(key[:]) }

func tooManyAsked(wait time.Duration) *problem.Error {
	p := problem.New(problem.Throttled, "too_many_requests", "This person, or too many people, were asked too often. Nobody was asked.")
	p.RetryAfter = max(wait, time.Second)
	return p
}

// errReported is for a client whose person said that they did not start what it asked.
var errReported = problem.New(problem.Denied, "access_denied", "This person is not asked by this client any more today.")

// mayAsk holds a client to the pauses that it has to keep (grant.AskAgain), and
// everybody to what one person may be asked. The budget that the act takes from does
// the same for those that come at once; its windows have edges, at which twice as many
// would be taken.
func (s *Server) mayAsk(ctx context.Context, c client.Client, who hinted, now time.Time) error {
	values, err := s.People.OnceBound(ctx, once.BackchannelAsked, who.bound)
	if err != nil {
		return err
	}
	all := make([]grant.Asked, 0, len(values))
	for _, v := range values {
		var b grant.Backchannel
		if err := json.Unmarshal(v.Data, &b); err != nil {
			return err
		}
		x := grant.Asked{Client: b.Client, Began: b.Started, Until: v.ExpiresAt, EndsAt: v.ExpiresAt, Became: v.Ref}
		if !v.UsedAt.IsZero() {
			x.EndsAt = v.UsedAt
		}
		all = append(all, x)
	}
	at, reported := grant.AskAgain(all, c.ID, now)
	switch {
	case reported:
		return errReported
	case at.After(now):
		return tooManyAsked(at.Sub(now))
	}
	if at = grant.Room(all, now); at.After(now) {
		return tooManyAsked(at.Sub(now))
	}
	return nil
}

// ping is what a client in the mode ping is told with.
type ping struct {
	ID    string `json:"auth_req_id"`
	Token string `json:"token"`
}

// Notification is a ping (CIBA Core §10.2): where to, with which bearer token, and
// the auth_req_id that is all it says.
type Notification struct {
	URL              string
	Token, AuthReqID secret.Value
}

// Notification gives the ping for an answered request of a client, by the name of its
// values; ok is false if there is nobody to tell any more.
func (s *Server) Notification(ctx context.Context, c client.Client, name string) (n Notification, ok bool, err error) {
	key, _ := requestKey(name)
	var b grant.Backchannel
	v, err := s.remembered(ctx, once.Backchannel, key, &b)
	if isGone(err) {
		return n, false, nil
	}
	if err != nil {
		return n, false, err
	}
	if v.Bound != c.ID || c.NotificationURI == "" || b.Ping == "" || !v.UsedAt.IsZero() || !s.now().Before(v.ExpiresAt) {
		return n, false, nil
	}
	var t ping
	if err := s.Keys.OpenState(pingPurpose, c.ID, b.Ping, &t); err != nil {
		if problem.Refusal(err) { // its key is gone, and so is the request
			return n, false, nil
		}
		return n, false, err
	}
	return Notification{c.NotificationURI, secret.Given(t.Token), secret.Given(t.ID)}, true, nil
}
