package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/issuer"
	"github.com/countersign-dev/countersign/internal/jose"
	values "github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// approved is what people had said yes to when yesterday's copy was made and nobody had
// fetched yet, the like of which was fetched today, and what was used today that the
// copy cannot know.
type approved struct {
	client            *actor.Client // that waits for devices and people, and presents assertions
	device, ask       string        // approved, and not fetched
	deviceUsed        string        // approved, and fetched today
	askUsed           string
	vouched, recovery string // a review by which somebody is let in; a recovery that two people confirmed
	idp               trustedIssuer
	changed           trustedIssuer // its key is another one today
	grant             string        // an assertion that was taken as a grant today
	proof             string        // an assertion by which a client said who it is today
}

// trustedIssuer is another server that says who sam is.
type trustedIssuer struct {
	issuer.Issuer
	signer *jose.Signer
}

// early is a clock that is nearly as far ahead as one may be.
func early() time.Time { return time.Now().Add(9 * time.Second) }

// says is an assertion about sam.
func (i trustedIssuer) says(t *testing.T, y *yesterday) string {
	t.Helper()
	now := early()
	text, err := i.signer.Sign(map[string]any{
		"iss": i.Spec.Issuer, "sub": "ext-1", "aud": y.issuer, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(4 * time.Minute).Unix(), "resource": theAPI,
	})
	check(t, err)
	return text
}

// configure adds to the configuration.
func (y *yesterday) configure(more string) {
	y.text += more
	check(y.t, os.WriteFile(y.file, []byte(y.text), 0o600))
	var err error
	y.config, err = config.Parse([]byte(y.text), nil)
	check(y.t, err)
}

// approve has a device and an app be allowed, somebody be vouched for, and a recovery
// be confirmed, while the server runs.
func (y *yesterday) approve() {
	t := y.t
	st := y.state(nil)
	defer func() { check(t, st.Close()) }()
	y.personOf(st, "sam")
	y.waiting(st)
	y.device, y.deviceUsed = y.allowed("/oauth/device_authorization", "device_code"), y.allowed("/oauth/device_authorization", "device_code")
	y.ask, y.askUsed = y.allowed("/oauth/backchannel_authentication", "auth_req_id"), y.allowed("/oauth/backchannel_authentication", "auth_req_id")
	y.idp, y.changed = y.trusts(st, "https://idp.example"), y.trusts(st, "https://changed.example")

	now := time.Now().UTC()
	rev := review.Review{
		ID: id.New(id.Review), Kind: policy.KindPerson, Actor: y.samID, Action: policy.SessionOpen, State: review.Open, Count: 1, OpenedAt: now, LastAt: now,
		Seen: review.Evidence{Code: policy.CodeDenied, Band: "extreme"},
	}
	rec := recovery.Recovery{
		ID: id.New(id.Recovery), Person: y.samID, Method: recovery.ByPeople, Claim: "claim", State: recovery.Open, Reason: "lost", OpenedBy: y.owner, Confirmed: 1,
		StartedAt: now, ExpiresAt: now.Add(time.Hour),
	}
	y.vouched, y.recovery = rev.ID, rec.ID
	check(t, st.Seed(t.Context(), audit.ReviewOpened, review.Opens{Review: rev}))
	check(t, st.Seed(t.Context(), audit.ReviewAllowed, review.Resolve{ID: rev.ID, State: review.Allowed, By: y.owner, Until: now.Add(time.Hour)}))
	check(t, st.Seed(t.Context(), audit.RecoveryOpened, recovery.Start{Recovery: rec}))
	check(t, st.Seed(t.Context(), audit.RecoveryConfirmed, recovery.Confirm{ID: rec.ID, By: y.samID, Quorum: 2, ReadyAt: now, ExpiresAt: now.Add(time.Hour)}))
	for p, n := range y.unspent(st) {
		if n == 0 {
			t.Errorf("nothing of purpose %d waits to be used", p)
		}
	}
	y.standing(st, true)
}

// waiting makes the client that others answer for.
func (y *yesterday) waiting(st *server.State) {
	t := y.t
	api, err := st.Store.ResourceByURI(t.Context(), theAPI)
	check(t, err)
	v := secret.New(secret.ClientSecret)
	h := v.Hash()
	c := client.Client{
		ID: id.New(id.Client), ClientID: "elsewhere", Name: "Elsewhere", AuthMethod: client.AuthSecretBasic, SecretHash: &h,
		GrantTypes: []client.GrantType{client.DeviceCode, client.CIBA, client.JWTBearer}, Scopes: []string{theScope, "openid"}, Resources: []string{api.ID},
		FirstParty: true, Owner: y.owner, CreatedAt: time.Now().UTC(),
	}
	check(t, st.Seed(t.Context(), audit.ClientCreated, client.Create{Client: c}))
	y.client = &actor.Client{Issuer: y.issuer, ID: c.ClientID, Secret: v.Reveal(), HTTP: actor.Pooled(4, soon(10*time.Second))}
}

// trusts has an issuer be trusted to say who sam is.
func (y *yesterday) trusts(st *server.State, name string) trustedIssuer {
	t := y.t
	api, err := st.Store.ResourceByURI(t.Context(), theAPI)
	check(t, err)
	i := trustedIssuer{Issuer: issuer.Issuer{ID: id.New(id.Issuer), ManagedBy: "api", CreatedAt: time.Now().UTC(), Spec: issuer.Spec{
		Issuer: name, Profiles: []string{issuer.JWTBearer}, Resources: []string{api.ID}, Scopes: []string{theScope},
	}}}
	i.signer = i.newKey(t)
	link := issuer.Link{ID: id.New(id.Link), Issuer: i.ID, Subject: "ext-1", Person: y.samID, CreatedAt: time.Now().UTC()}
	check(t, st.Seed(t.Context(), audit.IssuerTrusted, issuer.Create{Issuer: i.Issuer}))
	check(t, st.Seed(t.Context(), audit.IssuerLinked, issuer.Join{Link: link}))
	return i
}

// newKey gives the registration another key, and what signs with it.
func (i *trustedIssuer) newKey(t *testing.T) *jose.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	i.JWKS, err = json.Marshal(&jose.JWKSet{Keys: []jose.JWK{{Key: key.Public(), KeyID: "i", Algorithm: jose.ES256}}})
	check(t, err)
	s, err := jose.NewSigner(key, jose.ES256, "i", jose.TypGrantAssertion)
	check(t, err)
	return s
}

// allowed has the client ask, and dana allow it; it gives what the client fetches the
// answer with.
func (y *yesterday) allowed(path, fetch string) string {
	t := y.t
	t.Helper()
	form := url.Values{"scope": {theScope + " openid"}, "resource": {theAPI}}
	if fetch == "auth_req_id" {
		form.Set("login_hint", "dana")
		form.Set("binding_message", "W4SCT")
	}
	body, err := y.client.Form(path, form)
	check(t, err)
	var told map[string]any
	check(t, json.Unmarshal(body, &told))
	if code, _ := told["user_code"].(string); code != "" {
		check(t, y.dana.AllowDevice(code))
	} else {
		check(t, y.dana.AllowRequest())
	}
	v, _ := told[fetch].(string)
	return v
}

// fetch is the client's coming for what was allowed.
func (y *yesterday) fetch(parameter, value string) (actor.Tokens, error) {
	grant := map[string]client.GrantType{"device_code": client.DeviceCode, "auth_req_id": client.CIBA, "assertion": client.JWTBearer}[parameter]
	return y.client.Token(url.Values{"grant_type": {string(grant)}, parameter: {value}})
}

// use fetches and uses today what the copy does not know to be used, and has what an
// issuer's old key signs be worth nothing.
func (y *yesterday) use(st *server.State) {
	t := y.t
	y.grant = y.idp.says(t, y)
	for parameter, v := range map[string]string{"device_code": y.deviceUsed, "auth_req_id": y.askUsed, "assertion": y.grant} {
		if _, err := y.fetch(parameter, v); err != nil { // positive control
			t.Errorf("%s, the first time: %v", parameter, err)
		}
	}
	if _, err := y.fetch("assertion", y.changed.says(t, y)); err != nil { // positive control
		t.Errorf("by the key that is to be withdrawn: %v", err)
	}
	now := y.changed
	now.newKey(t)
	check(t, st.Seed(t.Context(), audit.IssuerUpdated, issuer.Update{Issuer: now.Issuer}))
	check(t, y.refused(y.fetch("assertion", y.changed.says(t, y))))
	var err error
	y.proof, err = y.keyed.Assertion()
	check(t, err)
	_, err = y.keyed.Credentials(y.proof)
	check(t, err)
}

// waitingFor are the purposes of values that somebody's yes is kept under.
var waitingFor = []values.Purpose{values.DeviceCode, values.DeviceAnswer, values.Backchannel, values.BackchannelAnswer}

// unspent counts what waits to be used, by purpose.
func (y *yesterday) unspent(st *server.State) map[values.Purpose]int {
	y.t.Helper()
	out := map[values.Purpose]int{}
	for _, p := range waitingFor {
		list, err := st.Store.OncePending(y.t.Context(), p)
		check(y.t, err)
		out[p] = len(list)
	}
	return out
}

// standing checks whether the recovery can be completed and whether somebody vouches.
func (y *yesterday) standing(st *server.State, want bool) {
	t := y.t
	t.Helper()
	now := time.Now()
	rec, err := st.Store.Recovery(t.Context(), y.recovery)
	check(t, err)
	if rec.Ready(now) != want || !want && rec.State != recovery.Cancelled {
		t.Errorf("a recovery that two people confirmed is %s, until %v", rec.State, rec.ExpiresAt)
	}
	list, err := st.Store.ReviewsOf(t.Context(), y.samID, now)
	check(t, err)
	if slices.ContainsFunc(list, func(r review.Review) bool { return r.ID == y.vouched && r.State == review.Allowed }) != want {
		t.Errorf("reviews by which somebody is let in: %+v", list)
	}
}

// nothingApproved: nobody's yes of before counts any more, fetched or not, and what was
// used once is not good again.
func (y *yesterday) nothingApproved() {
	t := y.t
	for what, err := range map[string]error{
		"a device that was allowed":                 y.refused(y.fetch("device_code", y.device)),
		"a device code that was used":               y.refused(y.fetch("device_code", y.deviceUsed)),
		"an app that was allowed":                   y.refused(y.fetch("auth_req_id", y.ask)),
		"an auth_req_id that was used":              y.refused(y.fetch("auth_req_id", y.askUsed)),
		"an issuer's assertion that was used":       y.refused(y.fetch("assertion", y.grant)),
		"an assertion by an issuer's withdrawn key": y.refused(y.fetch("assertion", y.changed.says(t, y))),
		"a client's assertion that was used":        y.refused(y.keyed.Credentials(y.proof)),
	} {
		if err != nil {
			t.Errorf("%s works again: %v", what, err)
		}
	}
	st := y.state(nil)
	defer func() { check(t, st.Close()) }()
	for p, n := range y.unspent(st) {
		if n > 0 {
			t.Errorf("%d values of purpose %d wait to be used", n, p)
		}
	}
	y.standing(st, false)
}

// issuersWork: an issuer whose registration stands is believed again, of what it says
// from now on.
func (y *yesterday) issuersWork() {
	t := y.t
	t.Helper()
	waitUntil(t, soon(30*time.Second), func() bool {
		_, err := y.fetch("assertion", y.idp.says(t, y))
		return err == nil
	})
}

// issuersWait: without an export nobody knows what an issuer is trusted with, so none is
// believed until it is released.
func (y *yesterday) issuersWait() {
	t := y.t
	t.Helper()
	y.says("quarantine", "release", "--people")
	waitUntil(t, soon(30*time.Second), func() bool { // so that it is refused for no other reason
		keyed := *y.keyed
		keyed.Now = early
		assertion, err := keyed.Assertion()
		check(t, err)
		_, err = keyed.Credentials(assertion)
		return err == nil
	})
	if err := y.refused(y.fetch("assertion", y.idp.says(t, y))); err != nil {
		t.Errorf("an issuer that was not released: %v", err)
	}
	y.says("quarantine", "release", "--issuers")
	y.issuersWork()
}
