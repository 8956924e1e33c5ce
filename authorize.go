package countersign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Resource is what an action is about.
type Resource struct {
	Type  string // as the deployment's schema names it
	ID    string
	Owner string // the subject, as tokens name it, of the person whose it is; "" if nobody's in particular
	// Properties are the attributes that the deployment's schema declares of the type, by
	// name: strings, whole numbers within ±(2⁵³−1), booleans and slices of strings. All that
	// are declared are needed; others are passed over. What stands here is the resource
	// server's word, and policy believes it.
	Properties map[string]any
}

// Policies makes a Decider of the policies that the issuer gives a resource server:
// pep.Engine is one.
type Policies interface {
	// Compile MUST give a Decider, or an error and none. What it is given was signed by
	// the issuer.
	Compile(schema, policies string) (Decider, error)
}

// Decider decides by policies. It MUST be safe for use by many goroutines, and MUST ask
// nobody.
type Decider interface {
	Decide(*Question) Answer
}

// Question is whether the holder of a token may do something now. Of the resource it has
// the properties that are declared, each a string, an int64, a bool or a []string.
type Question struct {
	Token     *Token
	Assurance assurance.State // that the token shows
	Bound     bool            // the token is bound to a key or certificate
	Action    string
	Resource  Resource
	Groups    []string // the person's, of those that the policies name
	Now       time.Time
}

// Answer is a decision. Of a refusal it says what would do.
type Answer struct {
	Allowed bool
	StepUp  bool          // a sign-in would do:
	Rung    Rung          // of this rung at least; 0 is any
	MaxAge  time.Duration // and at most so old; 0 is any age
	Machine Rung          // the rung of the machines' ladder that would do; 0: none
	Text    string        // the policy's public reason; "" if it has none
}

// AccessError says that policy refuses what a good token asks for. Refuse answers with
// the challenge that would lead to it (RFC 9470), if there is one. In its chain is an
// *Error: NeedsStepUp or Denied.
type AccessError struct {
	Answer  Answer
	verdict verdict
	problem *Error
}

// Error implements error.
func (e *AccessError) Error() string { return e.problem.Error() }

// Unwrap gives the *Error.
func (e *AccessError) Unwrap() error { return e.problem }

// PropertyError says that Resource.Properties lacks what the deployment's schema declares,
// or has it of another type: a fault of the program, or a schema that is ahead of it.
type PropertyError struct {
	Type string // of the resource
	Text string // which property, and what is wrong with it
}

// Error implements error.
func (e *PropertyError) Error() string {
	return "countersign: of a " + e.Type + ", the property " + e.Text
}

// errUnprotected is a fault of the program.
var errUnprotected = errors.New("countersign: Authorize needs the context of a request that Protect let through")

// errUndecided says that policy could not be asked, and that the action is not done then.
var errUndecided = problem.New(problem.Unavailable, "temporarily_unavailable", "Whether this is allowed could not be found out.")

// Authorize reports whether the request that Protect let through may do an action on a
// resource: nil if it may, else an error for Refuse. Where the policies are held here
// (Config.Policies) it asks nobody and takes microseconds; it asks the issuer about what
// only that can decide. If neither can be done, the action's stated outage answer is
// given; an *AccessError refuses, another *Error is Unavailable, or Unauthenticated of a
// token that has expired or ended since it was verified. A *PropertyError says that the
// program does not say of the resource what the schema declares; nothing is allowed then.
//
// Decide before it is looked up whether the thing exists, with what the request says of
// it, so that the answer does not tell (mechanisms A11).
func Authorize(ctx context.Context, action string, on Resource) error {
	a, _ := ctx.Value(tokenKey{}).(*admitted)
	if a == nil {
		return errUnprotected
	}
	return a.verifier.Authorize(ctx, a.token, action, on)
}

// Refuse answers a request that Authorize refused: 401 or 403 with what would do, 503 if
// it could not be decided.
func Refuse(w http.ResponseWriter, r *http.Request, err error) {
	a, _ := r.Context().Value(tokenKey{}).(*admitted)
	if a == nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	a.verifier.decline(w, r, a.token, err)
}

// RequireAction has the policies decide the action before the request goes on; on gives
// what it is about, from what the request says.
func RequireAction(action string, on func(*http.Request) Resource) Requirement {
	if action == "" || on == nil {
		panic("countersign: RequireAction needs an action and what it is about")
	}
	return func(r *route) { r.action, r.on = action, on }
}

// decline answers a good token that policy refuses.
func (v *Verifier) decline(w http.ResponseWriter, r *http.Request, t *Token, err error) {
	var no *AccessError
	switch {
	case errors.As(err, &no):
		v.answer(w, r, t, no.verdict)
	case errors.As(err, new(*PropertyError)):
		v.log.Error("authorize", "err", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	case problem.From(err) != nil:
		v.refuse(w, r, &route{}, err)
	default:
		v.refuse(w, r, &route{}, errUndecided.Because(err))
	}
}

// Authorize is the same of a token that this verifier verified.
func (v *Verifier) Authorize(ctx context.Context, t *Token, action string, on Resource) error {
	if err := v.over(t); err != nil {
		return err
	}
	by, err := v.authorize(ctx, t, action, on)
	v.tally.decided(by, err)
	return err
}

// authorize decides of a token that stands, and says who did.
func (v *Verifier) authorize(ctx context.Context, t *Token, action string, on Resource) (by int, err error) {
	var held *heldPolicies
	var age time.Duration
	b := v.bundle
	if b != nil {
		held, age = b.current()
	}
	if held == nil {
		a, err := v.consult(ctx, t, action, on)
		if err != nil {
			return byIssuer, err
		}
		return byIssuer, v.settled(t, a)
	}
	act, known := held.actions[action]
	if !known || !slices.Contains(act.Resources, on.Type) || !slices.Contains(act.Kinds, t.kind()) {
		return byPolicies, v.no(t, Answer{})
	}
	said, wrong := held.types[on.Type].Take(on.Properties)
	if wrong != nil {
		return byPolicies, &PropertyError{on.Type, wrong.Error()}
	}
	can := act.Held && held.decider != nil && t.Act == nil && t.tellsKind() && (!act.Groups || t.nameable()) && t.tellsOwner(on)
	here, unanswered := whereDecided(act, can, age)
	if here {
		return byPolicies, v.judged(held, t, action, on, said)
	}
	a, err := v.consult(ctx, t, action, on)
	if err == nil {
		return byIssuer, v.settled(t, a)
	}
	b.stats.outages.Add(1)
	if unanswered && unasked(ctx, err) {
		return byPolicies, v.judged(held, t, action, on, said)
	}
	return byIssuer, err
}

// over refuses a token that has expired or ended since it was verified: no policy brings
// it back.
func (v *Verifier) over(t *Token) error {
	if !v.now().Before(t.ExpiresAt.Add(tokenLeeway)) {
		return errExpired
	}
	if v.feed != nil {
		if ended, _, _ := v.feed.judge(t); ended {
			return errRevoked
		}
	}
	return nil
}

// whereDecided says of an action whether it is decided here, without asking anybody, and
// whether it is decided here if the issuer does not answer. can is false where what is
// held does not say enough of the token; age is how long ago the issuer said that it is
// in force (mechanisms A16, C14).
func whereDecided(act jose.BundleAction, can bool, age time.Duration) (here, unanswered bool) {
	last := can && act.Last && age <= bundleLife
	return act.Local && (can && age <= outageAfter || last), last
}

// judged decides by the policies held here.
func (v *Verifier) judged(held *heldPolicies, t *Token, action string, on Resource, said attribute.Values) error {
	now := v.now()
	on.Properties = said
	return v.settled(t, held.decider.Decide(&Question{
		Token: t, Action: action, Resource: on, Now: now, Bound: t.bound, Groups: held.groupsOf(t),
		Assurance: ladder.Shows(assurance.Shown{ACR: t.ACR, AuthTime: t.AuthTime, Person: t.Person(), Present: t.present, Machine: t.machine}, now),
	}))
}

// settled makes an error of an answer that does not allow.
func (v *Verifier) settled(t *Token, a Answer) error {
	if a.Allowed {
		return nil
	}
	return v.no(t, a)
}

// no says what a refused request would need. It is a challenge only if following it
// leads to another answer (mechanisms A15).
func (v *Verifier) no(t *Token, a Answer) error {
	d := verdict{status: http.StatusForbidden, code: "access_denied", bare: true, text: "This is not allowed."}
	switch {
	case a.StepUp && t.Person():
		r := &route{ask: assurance.Ask{Rung: max(a.Rung, assurance.Single), MaxAge: a.MaxAge}}
		if j := r.judge(t, v.now()); j.status != 0 {
			d = j
			if a.Text != "" && !d.bare {
				d.text = a.Text
			}
		}
	case a.Machine != 0 && !t.Person():
		d = needsMachine(a.Machine)
	}
	p := problem.New(problem.Denied, d.code, d.text)
	if d.status == http.StatusUnauthorized {
		p.Kind = problem.StepUp
		p.Challenge = &problem.Challenge{ACRValues: d.acrValues, MaxAge: d.maxAge, Public: a.Text}
	}
	return &AccessError{Answer: a, verdict: d, problem: p}
}

// kind is what policies call the holder of a token.
func (t *Token) kind() string {
	if t.Person() {
		return "person"
	}
	return "service"
}

// asker asks the issuer about single actions.
type asker struct {
	hc *http.Client
	// silent is when the issuer last did not answer, in nanoseconds since began: for a
	// moment it is not asked again, so that an outage costs requests no waiting.
	silent atomic.Int64
	began  time.Time
}

// askPause is how long the issuer is not asked after it did not answer.
const askPause = 2 * time.Second

// Where the issuer is asked (AuthZEN 1.0).
const (
	pathAccess     = "/access"
	pathEvaluation = pathAccess + "/v1/evaluation"
)

type evaluation struct {
	Subject  evaluated         `json:"subject"`
	Action   map[string]string `json:"action"`
	Resource evaluated         `json:"resource"`
	Context  map[string]string `json:"context"`
}

type evaluated struct {
	Type       string         `json:"type"`
	ID         string         `json:"id"`
	Properties map[string]any `json:"properties,omitempty"`
}

// unasked reports whether err says that the issuer could not be asked. That it did not
// take the question, or that whoever made the request went away, is no outage: they could
// bring it about, and choose by that who decides.
func unasked(ctx context.Context, err error) bool {
	var answer *ResponseError
	return ctx.Err() == nil && (!errors.As(err, &answer) || answer.Status/100 != 4)
}

// consult asks the issuer. An error is Unavailable.
func (v *Verifier) consult(ctx context.Context, t *Token, action string, on Resource) (Answer, error) {
	if v.asker == nil {
		return Answer{}, errUndecided.Because(errors.New("no Client was configured to ask the issuer with"))
	}
	since := time.Since(v.asker.began)
	if at := v.asker.silent.Load(); at != 0 && since-time.Duration(at) < askPause {
		return Answer{}, errUndecided.Because(errors.New("the issuer did not answer a moment ago"))
	}
	a, err := v.evaluate(ctx, t, action, on)
	if err != nil {
		if unasked(ctx, err) {
			v.asker.silent.Store(int64(since))
		}
		v.log.Warn("ask the issuer about an action", "action", action, "err", err)
		return Answer{}, errUndecided.Because(err)
	}
	return a, nil
}

func (v *Verifier) evaluate(ctx context.Context, t *Token, action string, on Resource) (a Answer, err error) {
	q := evaluation{
		Subject: evaluated{Type: t.kind(), ID: t.Subject}, Action: map[string]string{"name": action},
		Resource: evaluated{Type: on.Type, ID: on.ID}, Context: map[string]string{"access_token": t.raw},
	}
	if len(on.Properties) > 0 || on.Owner != "" {
		q.Resource.Properties = attribute.Plain(on.Properties) // as they would be decided on here
		delete(q.Resource.Properties, "owner")                 // which Owner says, and nothing else
		delete(q.Resource.Properties, "ownerID")
	}
	if on.Owner != "" {
		q.Resource.Properties["owner"] = on.Owner
	}
	body, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.cfg.Issuer+pathEvaluation, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	var out struct {
		Decision bool `json:"decision"`
		Context  struct {
			ACRValues string            `json:"acr_values"`
			MaxAge    int64             `json:"max_age"`
			Machine   string            `json:"client_assurance"`
			Words     map[string]string `json:"reason_user"`
		} `json:"context"`
	}
	if _, err := doJSON(v.asker.hc, req, &out); err != nil {
		return a, err
	}
	a = Answer{Allowed: out.Decision, Machine: assurance.MachineRung(out.Context.Machine), Text: out.Context.Words["en"]}
	if first, _, _ := strings.Cut(out.Context.ACRValues, " "); !a.Allowed && (first != "" || out.Context.MaxAge > 0) {
		a.StepUp, a.Rung, a.MaxAge = true, ladder.RungOf(first), time.Duration(out.Context.MaxAge)*time.Second
	}
	return a, nil
}
