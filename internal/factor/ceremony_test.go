package factor_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

const (
	rpID   = "id.example.com"
	origin = "https://id.example.com:8443"
	bound  = "browser"
)

var (
	key  = bytes.Repeat([]byte{7}, 32)
	when = time.Now().UTC().Truncate(time.Second) // the library looks at the machine's clock as well
	site = virtualwebauthn.RelyingParty{ID: rpID, Name: "Countersign", Origin: origin}
)

func ceremony(t *testing.T) *factor.Ceremony {
	t.Helper()
	c, err := factor.NewCeremony(rpID, origin, func() [][]byte { return [][]byte{key} })
	ok(t, err)
	return c
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// device is an authenticator with one credential, and whose it is.
type device struct {
	auth   virtualwebauthn.Authenticator
	cred   virtualwebauthn.Credential
	person string
	holder factor.Holder
}

func newDevice(o virtualwebauthn.AuthenticatorOptions) *device {
	d := &device{auth: virtualwebauthn.NewAuthenticatorWithOptions(o), cred: virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2), person: id.New(id.Person)}
	for len(d.cred.Key.AttestationData()) != 77 { // the library drops leading zeros of coordinates
		d.cred = virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
	}
	d.holder = factor.Holder{Handle: factor.HandleOf(id.New(id.Person)), Username: "dana", Name: "Dana"}
	d.auth.Options.UserHandle = d.holder.Handle
	return d
}

// register answers creation options.
func (d *device) register(t *testing.T, c *factor.Ceremony, rp virtualwebauthn.RelyingParty) []byte {
	t.Helper()
	o, err := c.EnrolOptions(d.holder, bound, when)
	ok(t, err)
	parsed, err := virtualwebauthn.ParseAttestationOptions(string(o))
	ok(t, err)
	return []byte(virtualwebauthn.CreateAttestationResponse(rp, d.auth, d.cred, *parsed))
}

// enrolled is the passkey of a device, as it is stored.
func (d *device) enrolled(t *testing.T, c *factor.Ceremony) factor.Passkey {
	t.Helper()
	p, _, _, err := c.Enrolled(d.holder, d.person, bound, d.register(t, c, site), when)
	ok(t, err)
	return p
}

// answer answers request options.
func (d *device) answer(t *testing.T, options []byte, rp virtualwebauthn.RelyingParty) []byte {
	t.Helper()
	o, err := virtualwebauthn.ParseAssertionOptions(string(options))
	ok(t, err)
	return []byte(virtualwebauthn.CreateAssertionResponse(rp, d.auth, d.cred, *o))
}

// signIn answers the options of a sign-in.
func (d *device) signIn(t *testing.T, c *factor.Ceremony, rp virtualwebauthn.RelyingParty) []byte {
	t.Helper()
	o, err := c.SignInOptions(bound, when)
	ok(t, err)
	return d.answer(t, o, rp)
}

// finds gives a passkey and its holder, whatever is asked for.
func (d *device) finds(p factor.Passkey) func(_, _ []byte) (factor.Holder, factor.Passkey, error) {
	return func(_, _ []byte) (factor.Holder, factor.Passkey, error) { return d.holder, p, nil }
}

// edit changes members of the response of an answer.
func edit(t *testing.T, answer []byte, f func(outer, response map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	ok(t, json.Unmarshal(answer, &m))
	f(m, m["response"].(map[string]any))
	b, err := json.Marshal(m)
	ok(t, err)
	return b
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(v.(string))
	ok(t, err)
	return b
}

// client signs an answer again over other client data.
func (d *device) client(t *testing.T, answer []byte, change func(c map[string]any)) []byte {
	t.Helper()
	return edit(t, answer, func(_, r map[string]any) {
		var c map[string]any
		ok(t, json.Unmarshal(decode(t, r["clientDataJSON"]), &c))
		change(c)
		b, err := json.Marshal(c)
		ok(t, err)
		sum := sha256.Sum256(b)
		digest := sha256.Sum256(append(decode(t, r["authenticatorData"]), sum[:]...))
		sig, err := d.cred.Key.Sign(digest[:])
		ok(t, err)
		r["clientDataJSON"], r["signature"] = encode(b), encode(sig)
	})
}

func refusedWith(t *testing.T, err error, kind problem.Kind, code string) {
	t.Helper()
	if p := problem.From(err); p == nil || p.Kind != kind || p.Code != code {
		t.Errorf("err = %v, want %s", err, code)
	}
}

// TestEnrol: a registration gives the passkey, all that is to be kept of it, the
// proof that making it was, and the spend of its challenge.
func TestEnrol(t *testing.T) {
	c := ceremony(t)
	for _, synced := range []bool{false, true} {
		d := newDevice(virtualwebauthn.AuthenticatorOptions{BackupEligible: synced, BackupState: synced})
		d.cred.Counter = 5
		answer := d.register(t, c, site)
		p, proof, spend, err := c.Enrolled(d.holder, d.person, bound, answer, when)
		ok(t, err)
		want := assurance.Proof{
			Method: assurance.Passkey, Subject: d.person, Credential: p.ID, At: when, UserVerified: true,
			PhishingResistant: true, HardwareBound: !synced, Synced: synced,
		}
		if diff := cmp.Diff(want, proof); diff != "" {
			t.Errorf("proof: %s", diff)
		}
		if !bytes.Equal(p.CredentialID, d.cred.ID) || p.Person != d.person || p.RPID != rpID || p.SignCount != 5 || !p.UserVerified ||
			p.BackupEligible != synced || p.BackupState != synced || p.Attestation != "self" || len(p.PublicKey) != 77 || len(p.AttestationObj) == 0 || len(p.ClientData) == 0 {
			t.Errorf("passkey %+v", p)
		}
		if spend.Purpose != once.Enrol || !spend.Mark || spend.Key == (once.Key{}) {
			t.Errorf("spend %+v", spend)
		}
		if _, _, again, err := c.Enrolled(d.holder, d.person, bound, answer, when); err != nil || again != spend {
			t.Errorf("the same answer again spends %+v, %v", again, err) // so that the act refuses it
		}
	}
}

// TestOptions: what browsers are asked for.
func TestOptions(t *testing.T) {
	c := ceremony(t)
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	p := d.enrolled(t, c)
	d.holder.Passkeys = []factor.Passkey{p}
	type options struct {
		PublicKey struct {
			Challenge, RPID, UserVerification string
			RP                                struct{ ID string }
			User                              struct{ ID, Name, DisplayName string }
			AllowCredentials                  []struct{ ID string }
			ExcludeCredentials                []struct{ ID string }
			AuthenticatorSelection            struct{ ResidentKey, UserVerification string }
			Timeout                           int
		} `json:"publicKey"`
	}
	read := func(b json.RawMessage, err error) (o options) {
		t.Helper()
		ok(t, err)
		ok(t, json.Unmarshal(b, &o))
		return o
	}
	e := read(c.EnrolOptions(d.holder, bound, when)).PublicKey
	if e.RP.ID != rpID || e.User.ID != encode(d.holder.Handle) || len(e.ExcludeCredentials) != 1 || e.ExcludeCredentials[0].ID != encode(p.CredentialID) ||
		e.AuthenticatorSelection.ResidentKey != "required" || e.AuthenticatorSelection.UserVerification != "required" || e.Timeout != 300_000 {
		t.Errorf("enrolment: %+v", e)
	}
	s := read(c.SignInOptions(bound, when)).PublicKey
	if s.RPID != rpID || len(s.AllowCredentials) != 0 || s.UserVerification != "required" {
		t.Errorf("sign-in: %+v", s)
	}
	u := read(c.StepUpOptions(d.holder, bound, when)).PublicKey
	if len(u.AllowCredentials) != 1 || u.AllowCredentials[0].ID != encode(p.CredentialID) || u.UserVerification != "required" {
		t.Errorf("step-up: %+v", u)
	}
	if e.Challenge == s.Challenge || s.Challenge == u.Challenge {
		t.Error("challenges repeat")
	}
}

// TestEnrolRefused: registrations that do not verify.
func TestEnrolRefused(t *testing.T) {
	c := ceremony(t)
	const refused, invalid = "passkey_refused", "challenge_invalid"
	for name, tc := range map[string]struct {
		options virtualwebauthn.AuthenticatorOptions
		rp      virtualwebauthn.RelyingParty
		edit    func(outer, r map[string]any)
		bound   string
		after   time.Duration
		code    string
	}{
		"user not verified":   {options: virtualwebauthn.AuthenticatorOptions{UserNotVerified: true}, code: refused},
		"user not there":      {options: virtualwebauthn.AuthenticatorOptions{UserNotPresent: true}, code: refused},
		"backed up, not able": {options: virtualwebauthn.AuthenticatorOptions{BackupState: true}, code: refused},
		"another origin":      {rp: virtualwebauthn.RelyingParty{ID: rpID, Origin: "https://evil.example"}, code: refused},
		"another port":        {rp: virtualwebauthn.RelyingParty{ID: rpID, Origin: "https://id.example.com"}, code: refused},
		"another scheme":      {rp: virtualwebauthn.RelyingParty{ID: rpID, Origin: "http://id.example.com:8443"}, code: refused},
		"a subdomain":         {rp: virtualwebauthn.RelyingParty{ID: rpID, Origin: "https://x.id.example.com:8443"}, code: refused},
		"in other letters":    {rp: virtualwebauthn.RelyingParty{ID: rpID, Origin: "https://ID.example.com:8443"}, code: refused},
		"with a slash":        {rp: virtualwebauthn.RelyingParty{ID: rpID, Origin: origin + "/"}, code: refused},
		"another relying party": {
			rp: virtualwebauthn.RelyingParty{ID: "example.com", Origin: origin}, code: refused,
		},
		"another browser": {bound: "other", code: invalid},
		"too late":        {after: factor.ChallengeLifetime + time.Second, code: invalid},
		"a bogus signature": {code: refused, edit: func(_, r map[string]any) {
			b := decode(t, r["attestationObject"])
			b[bytes.Index(b, []byte("csig"))+10] ^= 1
			r["attestationObject"] = encode(b)
		}},
		"an unknown statement": {code: refused, edit: func(_, r map[string]any) {
			r["attestationObject"] = encode(statement(t, decode(t, r["attestationObject"]), "acme-9000"))
		}},
		"no attestation object": {code: refused, edit: func(_, r map[string]any) { delete(r, "attestationObject") }},
		"no client data":        {code: "webauthn_malformed", edit: func(_, r map[string]any) { delete(r, "clientDataJSON") }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(tc.options)
			rp := tc.rp
			if rp.ID == "" {
				rp = site
			}
			answer := d.register(t, c, rp)
			if tc.edit != nil {
				answer = edit(t, answer, tc.edit)
			}
			b := bound
			if tc.bound != "" {
				b = tc.bound
			}
			p, proof, spend, err := c.Enrolled(d.holder, d.person, b, answer, when.Add(tc.after))
			kind := problem.Invalid
			if tc.code == refused {
				kind = problem.Unauthenticated
			}
			refusedWith(t, err, kind, tc.code)
			if p.ID != "" || proof.Method != "" || spend.Mark {
				t.Errorf("gave %+v %+v %+v", p, proof, spend)
			}
		})
	}
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	o, err := c.SignInOptions(bound, when) // a challenge for another ceremony
	ok(t, err)
	parsed, err := virtualwebauthn.ParseAttestationOptions(string(o))
	ok(t, err)
	_, _, _, err = c.Enrolled(d.holder, d.person, bound, []byte(virtualwebauthn.CreateAttestationResponse(site, d.auth, d.cred, *parsed)), when)
	refusedWith(t, err, problem.Invalid, "challenge_invalid")
}

// statement gives an attestation object with an empty statement of another
// format over the same authenticator data.
func statement(t *testing.T, object []byte, format string) []byte {
	t.Helper()
	name := append([]byte{0x68}, "authData"...)
	at := bytes.Index(object, name)
	if at < 0 || object[at+len(name)] != 0x58 {
		t.Fatalf("authenticator data is not where it was expected: %x", object)
	}
	n := int(object[at+len(name)+1])
	data := object[at : at+len(name)+2+n]
	out := append([]byte{0xa3, 0x63}, "fmt"...)
	out = append(append(out, 0x60|byte(len(format))), format...)
	out = append(append(out, 0x67), "attStmt"...)
	return append(append(out, 0xa0), data...)
}

// TestAttestation: without a trusted root no statement counts as verified.
func TestAttestation(t *testing.T) {
	c := ceremony(t)
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	answer := edit(t, d.register(t, c, site), func(_, r map[string]any) {
		r["attestationObject"] = encode(statement(t, decode(t, r["attestationObject"]), "none"))
	})
	p, proof, _, err := c.Enrolled(d.holder, d.person, bound, answer, when)
	ok(t, err)
	if p.Attestation != "none" || proof.Attested {
		t.Errorf("no statement: %s, attested %v", p.Attestation, proof.Attested)
	}
	p, proof, _, err = c.Enrolled(d.holder, d.person, bound, d.register(t, c, site), when)
	ok(t, err)
	if p.Attestation != "self" || proof.Attested {
		t.Errorf("signed with its own key: %s, attested %v", p.Attestation, proof.Attested)
	}
}

// TestAssert: a sign-in and a step-up yield who it was, the use, the proof and
// the spend.
func TestAssert(t *testing.T) {
	c := ceremony(t)
	for _, synced := range []bool{false, true} {
		d := newDevice(virtualwebauthn.AuthenticatorOptions{BackupEligible: synced, BackupState: synced})
		d.cred.Counter = 5
		p := d.enrolled(t, c)
		for _, purpose := range []once.Purpose{once.SignIn, once.StepUp} {
			d.cred.Counter++
			o, err := c.SignInOptions(bound, when)
			if purpose == once.StepUp {
				h := d.holder
				h.Passkeys = []factor.Passkey{p}
				o, err = c.StepUpOptions(h, bound, when)
			}
			ok(t, err)
			a, err := c.Assert(purpose, bound, d.answer(t, o, site), when, func(credential, handle []byte) (factor.Holder, factor.Passkey, error) {
				if !bytes.Equal(credential, d.cred.ID) || !bytes.Equal(handle, d.holder.Handle) {
					t.Errorf("asked for %x of %x", credential, handle)
				}
				return d.holder, p, nil
			})
			ok(t, err)
			want := factor.Asserted{
				Use: factor.Use{ID: p.ID, SignCount: d.cred.Counter, BackupState: synced, At: when},
				Proof: assurance.Proof{
					Method: assurance.Passkey, Subject: d.person, Credential: p.ID, At: when, UserVerified: true,
					PhishingResistant: true, HardwareBound: !synced, Synced: synced,
				},
				Spend: a.Spend,
			}
			if diff := cmp.Diff(want, a); diff != "" {
				t.Error(diff)
			}
			if a.Spend.Purpose != purpose || !a.Spend.Mark || a.Spend.Key == (once.Key{}) {
				t.Errorf("spend %+v", a.Spend)
			}
		}
	}
}

// TestAssertRefused: assertions that do not verify.
func TestAssertRefused(t *testing.T) {
	c := ceremony(t)
	at := func(o string) virtualwebauthn.RelyingParty { return virtualwebauthn.RelyingParty{ID: rpID, Origin: o} }
	for name, tc := range map[string]struct {
		rp     virtualwebauthn.RelyingParty
		device func(d *device)
		stored func(p *factor.Passkey)
		edit   func(outer, r map[string]any)
		client func(c map[string]any)
	}{
		"user not verified":     {device: func(d *device) { d.auth.Options.UserNotVerified = true }},
		"user not there":        {device: func(d *device) { d.auth.Options.UserNotPresent = true }},
		"became backup able":    {device: func(d *device) { d.auth.Options.BackupEligible = true }},
		"was backup able":       {stored: func(p *factor.Passkey) { p.BackupEligible = true }},
		"backed up, not able":   {device: func(d *device) { d.auth.Options.BackupState = true }},
		"another origin":        {rp: at("https://evil.example")},
		"another port":          {rp: at("https://id.example.com")},
		"a subdomain":           {rp: at("https://x.id.example.com:8443")},
		"in other letters":      {rp: at("https://ID.example.com:8443")},
		"with a slash":          {rp: at(origin + "/")},
		"a longer name":         {rp: at(origin + ".evil.example")},
		"the null origin":       {rp: at("null")},
		"another relying party": {rp: virtualwebauthn.RelyingParty{ID: "example.com", Origin: origin}},
		"another key":           {device: func(d *device) { d.cred.Key = newDevice(virtualwebauthn.AuthenticatorOptions{}).cred.Key }},
		"another credential":    {stored: func(p *factor.Passkey) { p.CredentialID = append([]byte{1}, p.CredentialID[1:]...) }},
		"another site's":        {stored: func(p *factor.Passkey) { p.RPID = "example.com" }},
		"handle of another":     {device: func(d *device) { d.auth.Options.UserHandle = factor.HandleOf(id.New(id.Person)) }},
		"no handle":             {device: func(d *device) { d.auth.Options.UserHandle = nil }},
		"a bogus signature": {edit: func(_, r map[string]any) {
			b := decode(t, r["signature"])
			b[len(b)-1] ^= 1
			r["signature"] = encode(b)
		}},
		"no signature": {edit: func(_, r map[string]any) { r["signature"] = "" }},
		"data changed after": {edit: func(_, r map[string]any) {
			b := decode(t, r["authenticatorData"])
			binary.BigEndian.PutUint32(b[33:], 99)
			r["authenticatorData"] = encode(b)
		}},
		"another type":         {client: func(c map[string]any) { c["type"] = "webauthn.create" }},
		"in a foreign frame":   {client: func(c map[string]any) { c["crossOrigin"] = true; c["topOrigin"] = "https://evil.example" }},
		"in a frame":           {client: func(c map[string]any) { c["crossOrigin"] = true }},
		"below a foreign page": {client: func(c map[string]any) { c["topOrigin"] = "https://evil.example" }},
		"two ids":              {edit: func(o, _ map[string]any) { o["id"] = encode([]byte("another")) }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(virtualwebauthn.AuthenticatorOptions{})
			p := d.enrolled(t, c)
			if tc.device != nil {
				tc.device(d)
			}
			if tc.stored != nil {
				tc.stored(&p)
			}
			rp := tc.rp
			if rp.ID == "" {
				rp = site
			}
			answer := d.signIn(t, c, rp)
			if tc.client != nil {
				answer = d.client(t, answer, tc.client)
			}
			if tc.edit != nil {
				answer = edit(t, answer, tc.edit)
			}
			a, err := c.Assert(once.SignIn, bound, answer, when, d.finds(p))
			refusedWith(t, err, problem.Unauthenticated, "passkey_refused")
			if a != (factor.Asserted{}) {
				t.Errorf("gave %+v", a)
			}
		})
	}
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	p := d.enrolled(t, c)
	unknown := errors.New("no such passkey")
	if _, err := c.Assert(once.SignIn, bound, d.signIn(t, c, site), when, func(_, _ []byte) (factor.Holder, factor.Passkey, error) {
		return factor.Holder{}, factor.Passkey{}, unknown
	}); !errors.Is(err, unknown) {
		t.Errorf("a passkey that is not there: %v", err)
	}
	// The builder itself makes answers that are accepted.
	if _, err := c.Assert(once.SignIn, bound, d.client(t, d.signIn(t, c, site), func(map[string]any) {}), when, d.finds(p)); err != nil {
		t.Errorf("signed again: %v", err)
	}
}

// TestAssertChallenge: an assertion answers a challenge of ours, made for this
// ceremony and browser, in time.
func TestAssertChallenge(t *testing.T) {
	c := ceremony(t)
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	p := d.enrolled(t, c)
	answer := d.signIn(t, c, site)
	never := func(_, _ []byte) (factor.Holder, factor.Passkey, error) {
		t.Error("a passkey was looked for")
		return d.holder, p, nil
	}
	for name, tc := range map[string]struct {
		purpose once.Purpose
		bound   string
		after   time.Duration
		answer  []byte
	}{
		"another purpose": {once.StepUp, bound, 0, answer},
		"another browser": {once.SignIn, "other", 0, answer},
		"too late":        {once.SignIn, bound, factor.ChallengeLifetime + time.Second, answer},
		"nobody's":        {once.SignIn, bound, 0, d.client(t, answer, func(c map[string]any) { c["challenge"] = encode(make([]byte, 60)) })},
		"none":            {once.SignIn, bound, 0, d.client(t, answer, func(c map[string]any) { delete(c, "challenge") })},
		"by another name": {once.SignIn, bound, 0, d.client(t, answer, func(c map[string]any) { c["challenge"] = c["challenge"].(string) + "\n" })},
	} {
		_, err := c.Assert(tc.purpose, tc.bound, tc.answer, when.Add(tc.after), never)
		if problem.CodeOf(err) != "challenge_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, junk := range []string{"", "{}", "[]", `{"response":{"clientDataJSON":"e30"}}`} {
		if _, err := c.Assert(once.SignIn, bound, []byte(junk), when, never); err == nil || problem.From(err) == nil {
			t.Errorf("%q: %v", junk, err)
		}
	}
}

// TestStepUpHandle: a step-up names its passkeys, so the handle may be missing,
// but is never another's.
func TestStepUpHandle(t *testing.T) {
	c := ceremony(t)
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	p := d.enrolled(t, c)
	for _, tc := range []struct {
		handle []byte
		ok     bool
	}{{d.holder.Handle, true}, {nil, true}, {factor.HandleOf(id.New(id.Person)), false}} {
		o, err := c.StepUpOptions(factor.Holder{Handle: d.holder.Handle, Passkeys: []factor.Passkey{p}}, bound, when)
		ok(t, err)
		d.auth.Options.UserHandle = tc.handle
		_, err = c.Assert(once.StepUp, bound, d.answer(t, o, site), when, d.finds(p))
		if tc.ok {
			ok(t, err)
		} else {
			refusedWith(t, err, problem.Unauthenticated, "passkey_refused")
		}
	}
}

// TestCounter: a counter that goes back refuses a key that cannot be copied, and
// is an alarm for one that can.
func TestCounter(t *testing.T) {
	c := ceremony(t)
	for _, tc := range []struct {
		stored, shown uint32
		synced        bool
		code          string
		alarm         bool
		kept          uint32
	}{
		{stored: 0, shown: 0, kept: 0},
		{stored: 0, shown: 7, kept: 7},
		{stored: 7, shown: 8, kept: 8},
		{stored: 7, shown: 7, code: "factor_counter", alarm: true},
		{stored: 7, shown: 6, code: "factor_counter", alarm: true},
		{stored: 7, shown: 0, code: "factor_counter", alarm: true},
		{stored: 7, shown: 7, synced: true, alarm: true, kept: 7},
		{stored: 7, shown: 3, synced: true, alarm: true, kept: 7},
	} {
		d := newDevice(virtualwebauthn.AuthenticatorOptions{BackupEligible: tc.synced})
		p := d.enrolled(t, c)
		p.SignCount, d.cred.Counter = tc.stored, tc.shown
		a, err := c.Assert(once.SignIn, bound, d.signIn(t, c, site), when, d.finds(p))
		if problem.CodeOf(err) != tc.code || a.Counter != tc.alarm {
			t.Errorf("%+v: %v, alarm %v", tc, err, a.Counter)
		}
		if err != nil {
			if a.Proof.Method != "" || a.Spend.Mark {
				t.Errorf("%+v: a refusal proves %+v", tc, a)
			}
		} else if a.Use.SignCount != tc.kept {
			t.Errorf("%+v: keeps %d", tc, a.Use.SignCount)
		}
	}
}

// TestHandle: a user handle is the bytes of the subject.
func TestHandle(t *testing.T) {
	s := id.Random(id.Person)
	if h := factor.HandleOf(s); len(h) != 16 || id.Encode(id.Person, [16]byte(h)) != s {
		t.Errorf("%x names %s", h, s)
	}
}
