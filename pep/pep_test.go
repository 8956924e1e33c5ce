package pep_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/pep"
)

const (
	aud  = "https://deploy.example.com"
	dana = "usr_0123456789ABCDEFGHJKMNPQRS"
	sam  = "usr_1123456789ABCDEFGHJKMNPQRS"
)

const schema = `
entity Cluster { owner: Person };
@audience("https://deploy.example.com") @outage("last")
action "look" appliesTo { principal: [Person, Service], resource: [Cluster], context: Context };
@audience("https://deploy.example.com")
action "deploy" appliesTo { principal: [Person, Service], resource: [Cluster], context: Context };
@audience("https://deploy.example.com") @outage("last")
action "restart" appliesTo { principal: [Person], resource: [Cluster], context: Context };
@audience("https://deploy.example.com")
action "destroy" appliesTo { principal: [Person], resource: [Cluster], context: Context };
`

const rules = `
@id("look") @reason("r") permit (principal, action == Action::"look", resource);
@id("deploy") @reason("r") @public_reason("Deploying needs a recent key")
permit (principal is Person in Group::"release", action == Action::"deploy", resource)
when { context.assurance.age.phr <= duration("5m") };
@id("deploy.machine") @reason("r") permit (principal is Service, action == Action::"deploy", resource) when { context.assurance.machine >= 2 };
@id("own") @reason("r") permit (principal is Person, action == Action::"deploy", resource) when { resource.owner == principal };
@id("restart") @reason("r") permit (principal is Person, action == Action::"restart", resource) unless { context.risk.known && context.risk.band == "extreme" };
@id("destroy") @reason("r") permit (principal is Person, action == Action::"destroy", resource) when { context.device.managed };
`

// issuer is an authorization server as the SDK sees it: real sockets and signatures, and
// bundles that are made to order.
type issuer struct {
	testing.TB
	url    string
	signer func(typ string) *jose.Signer
	set    *policy.Set
	schema string
	rules  string

	mu       sync.Mutex
	head     jose.BundleHead
	text     string
	answer   []byte // in the place of the bundle, if not nil
	told     string // AuthZEN's answer, "" is none
	status   int    // of none; 0 is 503
	question []byte // the last that was asked
	asked    atomic.Int64
	served   atomic.Int64
	down     atomic.Bool  // it answers nothing but 503
	ahead    atomic.Int64 // of the clock of tokens
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	i := &issuer{TB: t, schema: schema, rules: rules}
	i.signer = func(typ string) *jose.Signer {
		s, err := jose.NewSigner(key, jose.ES256, "k", typ)
		ok(t, err)
		return s
	}
	mux := http.NewServeMux()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			http.Error(w, "{}", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	i.url = srv.URL
	put := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		put(w, map[string]string{"issuer": i.url, "token_endpoint": i.url + "/token", "introspection_endpoint": i.url + "/introspect", "jwks_uri": i.url + "/jwks"})
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		put(w, &jose.JWKSet{Keys: []jose.JWK{{Key: key.Public(), KeyID: "k", Algorithm: jose.ES256}}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		put(w, map[string]any{"access_token": "x.y.z", "token_type": "DPoP", "expires_in": 300})
	})
	mux.HandleFunc("/v1/bundle", i.bundle)
	mux.HandleFunc("/access/v1/evaluation", func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.question, _ = io.ReadAll(r.Body)
		if r.Header.Get("DPoP") == "" || !strings.HasPrefix(r.Header.Get("Authorization"), "DPoP ") || i.told == "" {
			http.Error(w, "{}", cmp.Or(i.status, http.StatusServiceUnavailable))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(i.told))
	})
	i.publish(1, 1, dana)
	return i
}

// publish makes a bundle of a version, as the server does. members are of every group.
func (i *issuer) publish(epoch, version int64, members ...string) {
	i.Helper()
	var err error
	i.set, err = policy.Compile(policy.Source{Schema: i.schema, Files: []policy.File{{Name: "a.cedar", Text: i.rules}}})
	ok(i, err)
	x := i.set.Excerpt(i.set.Places(aud))
	c := jose.BundleContent{Format: jose.BundleFormat, Schema: x.Schema, Policies: x.Policies, Groups: map[string][]string{}, Actions: map[string]jose.BundleAction{}}
	for _, g := range x.Groups {
		for _, sub := range members {
			c.Groups[g] = append(c.Groups[g], jose.BundleMember(aud, sub))
		}
	}
	for _, p := range i.set.Places(aud) {
		for _, kind := range p.Resources {
			c.Declare(kind, i.set.Attributes(kind))
		}
		c.Actions[string(p.Action)] = jose.BundleAction{
			Local: p.Local, Held: p.Held, Groups: len(p.Groups) > 0, Last: p.Outage == policy.OutageLast, Kinds: p.Kinds, Resources: p.Resources,
		}
	}
	text, err := json.Marshal(c)
	ok(i, err)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.text = string(text)
	i.head = jose.BundleHead{Issuer: i.url, Audience: jose.Audience{aud}, Epoch: epoch, Policy: version, Hash: jose.BundleHash(i.text)}
}

// sealed is an answer with a head.
func (i *issuer) sealed(h jose.BundleHead, text string) []byte {
	i.Helper()
	s, err := i.signer(jose.TypBundle).Sign(h)
	ok(i, err)
	b, err := json.Marshal(map[string]string{"head": s, "content": text})
	ok(i, err)
	return b
}

func (i *issuer) bundle(w http.ResponseWriter, r *http.Request) {
	defer i.served.Add(1)
	i.mu.Lock()
	defer i.mu.Unlock()
	answer, h, text := i.answer, i.head, i.text
	if answer == nil {
		h.IssuedAt = jose.Date(time.Now())
		if r.URL.Query().Get("have") == h.Hash {
			text = ""
		}
		answer = i.sealed(h, text)
	}
	if len(answer) == 0 {
		http.Error(w, "{}", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write(answer)
}

// say has the issuer answer AuthZEN so; "" not at all.
func (i *issuer) say(text string) {
	i.mu.Lock()
	i.told = text
	i.mu.Unlock()
}

// config is of a resource server.
func (i *issuer) config(edit ...func(*countersign.Config)) countersign.Config {
	cfg := countersign.Config{
		Issuer: i.url, Audience: aud, AllowBearer: true, NoFeed: true, Policies: pep.Engine(),
		Client: countersign.ClientAuth{ID: "deploy-api", Secret: "s"},
	}
	for _, e := range edit {
		e(&cfg)
	}
	return cfg
}

func (i *issuer) point(edit ...func(*countersign.Config)) *countersign.Verifier {
	i.Helper()
	v, err := countersign.New(i.Context(), i.config(edit...))
	ok(i, err)
	i.Cleanup(v.Close)
	return v
}

func (i *issuer) ready(v *countersign.Verifier) *countersign.Verifier {
	i.Helper()
	ok(i, v.Ready(i.Context()))
	return v
}

// holder is somebody with a token.
type holder struct {
	sub, acr string
	ago      time.Duration // of the sign-in
	act      *jose.Actor
}

var machine = holder{sub: "svc_0123456789ABCDEFGHJKMNPQRS"}

func (i *issuer) token(h holder) string {
	i.Helper()
	now := time.Now().Add(time.Duration(i.ahead.Load()))
	c := jose.AccessTokenClaims{
		Issuer: i.url, Subject: h.sub, Audience: jose.Audience{aud}, ClientID: "app", JTI: "rec_1", Scope: "use", Lineage: []string{"AAAAAAAAAAAA"},
		IssuedAt: jose.Date(now), ExpiresAt: jose.Date(now.Add(5 * time.Minute)), ACR: h.acr, Actor: h.act,
	}
	if h.acr != "" {
		c.AuthTime = jose.Date(now.Add(-h.ago))
	}
	s, err := i.signer(jose.TypAccessToken).Sign(c)
	ok(i, err)
	return s
}

// tries has a request protected by a requirement.
func (i *issuer) tries(v *countersign.Verifier, h holder, action string, on countersign.Resource) *httptest.ResponseRecorder {
	i.Helper()
	r := httptest.NewRequest(http.MethodPost, aud+"/", nil)
	r.Header.Set("Authorization", "Bearer "+i.token(h))
	w := httptest.NewRecorder()
	v.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), countersign.RequireAction(action, func(*http.Request) countersign.Resource { return on })).ServeHTTP(w, r)
	return w
}

var prod = countersign.Resource{Type: "Cluster", ID: "prod", Owner: sam}

// TestDecidesByItself: what the policies held can decide is decided without asking, and a
// refusal says in one line what would do, in the token's scheme (mechanisms A25, A26).
func TestDecidesByItself(t *testing.T) {
	i := newIssuer(t)
	v := i.ready(i.point())
	meta := `, resource_metadata="https://deploy.example.com/.well-known/oauth-protected-resource"`
	for name, c := range map[string]struct {
		who       holder
		action    string
		on        countersign.Resource
		status    int
		challenge string
	}{
		"fresh":           {holder{sub: dana, acr: "phr"}, "deploy", prod, 200, ""},
		"old":             {holder{sub: dana, acr: "phr", ago: time.Hour}, "deploy", prod, 401, `Bearer error="insufficient_user_authentication", error_description="Deploying needs a recent key", acr_values="phr phrh", max_age="300"` + meta},
		"weak":            {holder{sub: dana, acr: "urn:countersign:acr:multi"}, "deploy", prod, 401, `Bearer error="insufficient_user_authentication", error_description="Deploying needs a recent key", acr_values="phr phrh", max_age="300"` + meta},
		"not a member":    {holder{sub: sam, acr: "phr"}, "deploy", countersign.Resource{Type: "Cluster", ID: "prod"}, 403, ""},
		"one's own":       {holder{sub: sam, acr: "phr"}, "deploy", prod, 200, ""},
		"a machine":       {machine, "look", prod, 200, ""},
		"no such action":  {holder{sub: dana, acr: "phr"}, "fly", prod, 403, ""},
		"no such thing":   {holder{sub: dana, acr: "phr"}, "deploy", countersign.Resource{Type: "Plane", ID: "prod"}, 403, ""},
		"not a machine's": {machine, "restart", prod, 403, ""},
	} {
		w := i.tries(v, c.who, c.action, c.on)
		if got := w.Header().Values("WWW-Authenticate"); w.Code != c.status || strings.Join(got, "|") != c.challenge || len(got) > 1 {
			t.Errorf("%s: %d %q, want %d %q", name, w.Code, got, c.status, c.challenge)
		}
	}
	if n := i.asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	if s := v.PolicyStatus(); !s.Held || s.Version != 1 || s.Actions != 4 || s.Local != 2 || s.Decided != 9 || s.Outages != 0 || s.LastError != "" {
		t.Errorf("%+v", s)
	}
}

// TestAsks: what only the issuer can decide is asked, and its answer is said as one's own.
func TestAsks(t *testing.T) {
	i := newIssuer(t)
	v := i.ready(i.point())
	who := holder{sub: dana, acr: "phr", ago: time.Hour}
	for told, want := range map[string]string{
		`{"decision":true}`:                        "200 ",
		`{"decision":false,"context":{"ref":"X"}}`: "403 ",
		`{"decision":false,"context":{"acr_values":"phrh","reason_user":{"en":"Hardware, please"}}}`: `401 Bearer error="insufficient_user_authentication", error_description="Hardware, please", acr_values="phrh"`,
		`{"decision":false,"context":{"acr_values":"phr phrh","max_age":60}}`:                        `401 Bearer error="insufficient_user_authentication", error_description="This needs a recent phishing-resistant sign-in", acr_values="phr phrh", max_age="60"`,
		// What the token satisfies already is no challenge: it would be asked for for ever (A15).
		`{"decision":false,"context":{"acr_values":"urn:countersign:acr:multi"}}`: "403 ",
	} {
		i.say(told)
		w := i.tries(v, who, "destroy", prod)
		if got := fmt.Sprint(w.Code, " ", w.Header().Get("WWW-Authenticate")); !strings.HasPrefix(got, want) || want == "403 " && got != want {
			t.Errorf("%s: %s", told, got)
		}
	}
	// A token of somebody who acts for a person, and of a person whom only a sector knows,
	// where groups are asked for.
	before := i.asked.Load()
	i.say(`{"decision":true}`)
	for _, h := range []holder{{sub: dana, acr: "phr", act: &jose.Actor{Subject: "svc_1"}}, {sub: "cGFpcndpc2UtcGFpcndpc2UtcGFpcndpc2UtcGFpcndpc2U", acr: "phr"}, machine} {
		if w := i.tries(v, h, "deploy", prod); w.Code != 200 {
			t.Errorf("%+v: %d", h, w.Code)
		}
	}
	if n := i.asked.Load() - before; n != 3 {
		t.Errorf("asked %d times", n)
	}
	i.say(`{"decision":false,"context":{"client_assurance":"m2"}}`)
	if w := i.tries(v, machine, "deploy", prod); w.Code != 403 || !strings.Contains(w.Header().Get("WWW-Authenticate"), `error="insufficient_scope"`) || !strings.Contains(w.Header().Get("WWW-Authenticate"), `client_assurance="m2"`) {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// TestOutage: what cannot be asked is answered as the action says.
func TestOutage(t *testing.T) {
	i := newIssuer(t)
	v := i.ready(i.point())
	who := holder{sub: dana, acr: "phr"}
	for _, c := range []struct {
		action string
		status int
	}{{"restart", 200}, {"destroy", 503}, {"look", 200}, {"deploy", 200}} { // by the last policies, refused, and not asked at all
		w := i.tries(v, who, c.action, prod)
		if w.Code != c.status || c.status == 503 && w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", c.action, w.Code)
		}
	}
	if s := v.PolicyStatus(); s.Outages != 2 || i.asked.Load() != 1 {
		t.Errorf("%+v; asked %d times, which costs every request a wait", s, i.asked.Load())
	}
}

// TestWhoseItIs: of a person whom only a sector knows, the issuer says whether a thing that
// is said to be somebody's is theirs: it may be, by another name.
func TestWhoseItIs(t *testing.T) {
	i := newIssuer(t)
	i.rules += `@id("four.eyes") @reason("r") forbid (principal is Person, action == Action::"look", resource) when { resource.owner == principal };`
	i.publish(1, 2, dana)
	v := i.ready(i.point())
	i.say(`{"decision":false}`) // it is theirs
	sector := "cGFpcndpc2UtcGFpcndpc2UtcGFpcndpc2UtcGFpcndpc2U"
	for _, c := range []struct {
		who    holder
		owner  string
		status int
		asked  int64
	}{{holder{sub: sector, acr: "phr"}, sam, 403, 1}, {holder{sub: sector, acr: "phr"}, "", 200, 0}, {holder{sub: sector, acr: "phr"}, sector, 403, 0}, {holder{sub: dana, acr: "phr"}, sam, 200, 0}, {machine, sam, 200, 0}} {
		before := i.asked.Load()
		if w := i.tries(v, c.who, "look", countersign.Resource{Type: "Cluster", ID: "prod", Owner: c.owner}); w.Code != c.status || i.asked.Load()-before != c.asked {
			t.Errorf("%s of %q: %d, asked %d times", c.who.sub, c.owner, w.Code, i.asked.Load()-before)
		}
	}
}

// TestAPersonIsNoService: a person's token that has neither a subject that all know nor a
// sign-in is not taken for a machine's.
func TestAPersonIsNoService(t *testing.T) {
	i := newIssuer(t)
	i.rules = strings.Replace(rules, `permit (principal, action == Action::"look", resource)`, `permit (principal is Service, action == Action::"look", resource)`, 1)
	i.publish(1, 2, dana)
	v := i.ready(i.point())
	i.say(`{"decision":false}`)
	for _, c := range []struct {
		sub    string
		status int
		asked  int64
	}{{"cGFpcndpc2UtcGFpcndpc2UtcGFpcndpc2UtcGFpcndpc2U", 403, 1}, {dana, 403, 0}, {machine.sub, 200, 0}, {strings.Replace(machine.sub, "svc_", "sub_", 1), 200, 0}} {
		before := i.asked.Load()
		if w := i.tries(v, holder{sub: c.sub}, "look", prod); w.Code != c.status || i.asked.Load()-before != c.asked {
			t.Errorf("%s: %d, asked %d times", c.sub, w.Code, i.asked.Load()-before)
		}
	}
}

// TestATokenGrowsOld: who goes on asking with a token that was verified once is refused
// when it has expired, whatever the policies say.
// TestNobodyIsSentToConfirm: what only a confirmation would satisfy is a refusal here, as it
// is at the server, and no challenge that nobody can follow.
func TestNobodyIsSentToConfirm(t *testing.T) {
	d, err := pep.Engine().Compile(`action "merge" appliesTo { principal: [Person], resource: [Cluster], context: Context }; entity Cluster;`,
		`@id("merge") @reason("r") permit (principal is Person, action == Action::"merge", resource) when { context.approvals.confirmed || context.assurance.rung >= 4 && context.approvals.count >= 1 };`)
	ok(t, err)
	a := d.Decide(&countersign.Question{
		Token: &countersign.Token{Subject: "sub", ACR: "phr", AuthTime: time.Now()}, Action: "merge", Resource: countersign.Resource{Type: "Cluster", ID: "prod"}, Now: time.Now(),
		Assurance: assurance.Default().Shows(assurance.Shown{ACR: "phr", AuthTime: time.Now(), Person: true, Present: true}, time.Now()),
	})
	if a.Allowed || a.StepUp || a.Text != "" {
		t.Errorf("%+v", a)
	}
}

func TestATokenGrowsOld(t *testing.T) {
	i := newIssuer(t)
	var ahead atomic.Int64
	v := i.ready(i.point(func(c *countersign.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}))
	r := httptest.NewRequest(http.MethodPost, aud+"/", nil)
	r.Header.Set("Authorization", "Bearer "+i.token(holder{sub: dana, acr: "phr"}))
	token, err := v.Verify(r)
	ok(t, err)
	ok(t, v.Authorize(t.Context(), token, "look", prod))
	ahead.Store(int64(6 * time.Minute))
	if err := v.Authorize(t.Context(), token, "look", prod); !errors.Is(err, countersign.Unauthenticated) {
		t.Errorf("%v", err)
	}
}

// TestNobodyMakesAnOutage: a question that the issuer does not take, which is made of what
// the request says, and a request whose client is gone, are decided by nobody: not by the
// policies held, and not for others either.
func TestNobodyMakesAnOutage(t *testing.T) {
	i := newIssuer(t)
	v := i.ready(i.point())
	who := holder{sub: dana, acr: "phr"}
	for _, status := range []int{400, 403, 413, 429} {
		i.mu.Lock()
		i.status = status
		i.mu.Unlock()
		if w := i.tries(v, who, "restart", prod); w.Code != 503 {
			t.Errorf("a question answered with %d: %d", status, w.Code)
		}
	}
	r := httptest.NewRequest(http.MethodPost, aud+"/", nil)
	r.Header.Set("Authorization", "Bearer "+i.token(who))
	token, err := v.Verify(r)
	ok(t, err)
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := v.Authorize(gone, token, "restart", prod); !errors.Is(err, countersign.Unavailable) {
		t.Errorf("whoever asked is gone: %v", err)
	}
	i.say(`{"decision":true}`)
	if w := i.tries(v, who, "restart", prod); w.Code != 200 || i.asked.Load() < 5 {
		t.Errorf("the next request: %d", w.Code)
	}
	i.say("") // the control
	i.mu.Lock()
	i.status = 502
	i.mu.Unlock()
	if w := i.tries(v, who, "restart", prod); w.Code != 200 {
		t.Errorf("in an outage: %d", w.Code)
	}
}

// TestNeverOlder: no answer takes back what was seen, and none that is not the issuer's,
// of now and whole is taken.
func TestNeverOlder(t *testing.T) {
	i := newIssuer(t)
	i.publish(3, 7, dana)
	old := i.head
	old.IssuedAt = jose.Date(time.Now())
	oldText := i.text
	v := i.ready(i.point())
	stranger := newIssuer(t)
	with := func(edit func(*jose.BundleHead)) jose.BundleHead {
		h := old
		h.IssuedAt = jose.Date(time.Now())
		edit(&h)
		return h
	}
	other := strings.Replace(oldText, "phr", "single", 1)
	unknown := strings.Replace(oldText, `"v":1`, `"v":3`, 1)
	broken := strings.Replace(oldText, "permit (", "permit [", 1)
	for name, answer := range map[string][]byte{
		"an earlier epoch":    i.sealed(with(func(h *jose.BundleHead) { h.Epoch, h.Policy, h.Hash = 2, 99, jose.BundleHash(other) }), other),
		"an earlier version":  i.sealed(with(func(h *jose.BundleHead) { h.Policy, h.Hash = 6, jose.BundleHash(other) }), other),
		"an earlier moment":   i.sealed(with(func(h *jose.BundleHead) { h.IssuedAt = old.IssuedAt - 30; h.Hash = jose.BundleHash(other) }), other),
		"of long ago":         i.sealed(with(func(h *jose.BundleHead) { h.IssuedAt -= 61 }), ""),
		"of another text":     i.sealed(with(func(h *jose.BundleHead) { h.Policy, h.Hash = 8, jose.BundleHash(other) }), oldText),
		"of another format":   i.sealed(with(func(h *jose.BundleHead) { h.Policy, h.Hash = 8, jose.BundleHash(unknown) }), unknown),
		"not to be compiled":  i.sealed(with(func(h *jose.BundleHead) { h.Policy, h.Hash = 8, jose.BundleHash(broken) }), broken),
		"of another audience": i.sealed(with(func(h *jose.BundleHead) { h.Policy = 8; h.Audience = jose.Audience{"https://x.example"} }), oldText),
		"of another issuer":   i.sealed(with(func(h *jose.BundleHead) { h.Policy = 8; h.Issuer = "https://x.example" }), oldText),
		"by another key":      stranger.sealed(with(func(h *jose.BundleHead) { h.Policy = 8 }), oldText),
		"not a bundle":        []byte("{"),
		"of another kind":     []byte(`{"head":"` + i.token(holder{sub: dana}) + `"}`),
	} {
		was := v.PolicyStatus()
		i.mu.Lock()
		i.answer = answer
		i.mu.Unlock()
		ok(t, until(func() bool { v.RefreshPolicies(); return v.PolicyStatus().Rejected > was.Rejected }))
		if s := v.PolicyStatus(); s.Epoch != 3 || s.Version != 7 || s.LastError == "" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// The positive control: a newer one is taken, and so is a new epoch with a lower version.
	i.mu.Lock()
	i.answer = nil
	i.mu.Unlock()
	i.publish(3, 8)
	ok(t, until(func() bool { v.RefreshPolicies(); return v.PolicyStatus().Version == 8 }))
	if w := i.tries(v, holder{sub: dana, acr: "phr"}, "deploy", prod); w.Code != 403 {
		t.Errorf("who left the group: %d", w.Code)
	}
	i.publish(4, 1, dana)
	ok(t, until(func() bool { v.RefreshPolicies(); return v.PolicyStatus().Epoch == 4 }))
	if w := i.tries(v, holder{sub: dana, acr: "phr"}, "deploy", prod); w.Code != 200 {
		t.Errorf("after a restore: %d", w.Code)
	}
}

func until(f func() bool) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if f() {
			return nil
		}
	}
	return errors.New("it does not come about")
}

// TestAuthorize is the function in a handler, and what a program gets wrong.
func TestAuthorize(t *testing.T) {
	i := newIssuer(t)
	v := i.ready(i.point())
	if err := countersign.Authorize(t.Context(), "deploy", prod); err == nil {
		t.Error("allowed without a token")
	}
	h := v.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := countersign.Authorize(r.Context(), "deploy", prod)
		var no *countersign.AccessError
		if !errors.Is(err, countersign.NeedsStepUp) || !errors.As(err, &no) || no.Answer.Rung != countersign.Phishing || no.Answer.MaxAge != 5*time.Minute {
			t.Errorf("%v", err)
		}
		countersign.Refuse(w, r, err)
	}))
	r := httptest.NewRequest(http.MethodPost, aud+"/", nil)
	r.Header.Set("Authorization", "Bearer "+i.token(holder{sub: dana, acr: "phr", ago: time.Hour}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 401 || !strings.Contains(w.Header().Get("WWW-Authenticate"), `max_age="300"`) || w.Header().Get("Countersign-Ref") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	countersign.Refuse(w, httptest.NewRequest(http.MethodGet, aud, nil), errors.New("x"))
	if w.Code != 500 {
		t.Errorf("%d", w.Code)
	}
	if _, err := countersign.New(t.Context(), countersign.Config{Issuer: i.url, Audience: aud, NoFeed: true, Policies: pep.Engine()}); err == nil {
		t.Error("policies for nobody")
	}
	// Without policies of its own, everything is asked.
	bare := i.point(func(c *countersign.Config) { c.Policies = nil })
	i.say(`{"decision":true}`)
	if w := i.tries(bare, holder{sub: dana}, "anything", prod); w.Code != 200 || bare.PolicyStatus() != (countersign.PolicyStatus{}) {
		t.Errorf("%d", w.Code)
	}
	if _, err := pep.Engine().Compile("", "permit ("); err == nil {
		t.Error("compiled what is no policy")
	}
}
