package factor_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// signing is what a device's owner is asked to sign in these tests.
func (d *device) signing() factor.Signing {
	return factor.Signing{
		Request: "pub_1", Person: d.person, Decision: "publish", Browser: "browser and session",
		Action: sha256.Sum256([]byte("what is pending")), View: factor.ViewHash("what is shown"),
	}
}

// asked asks a device's owner for a signature: the answer, and what is kept.
func (d *device) asked(t *testing.T, c *factor.Ceremony, p factor.Passkey) ([]byte, once.Value) {
	t.Helper()
	d.holder.Passkeys = []factor.Passkey{p}
	o, kept, err := c.SigningOptions(d.holder, d.signing(), when)
	ok(t, err)
	return d.answer(t, o, site), kept.Value
}

// A signature gives everything that it takes to verify it again, by the rules and with
// nothing else: it commits to what is pending, what is shown, who signs, where and when.
func TestSign(t *testing.T) {
	c := ceremony(t)
	for _, synced := range []bool{false, true} {
		d := newDevice(virtualwebauthn.AuthenticatorOptions{BackupEligible: synced, BackupState: synced})
		d.cred.Counter = 5
		p := d.enrolled(t, c)
		d.cred.Counter = 6
		answer, kept := d.asked(t, c, p)
		key, err := factor.SigningKey(answer)
		ok(t, err)
		if key != kept.Key || kept.Purpose != once.Signing || kept.Bound != "pub_1 "+d.person || !kept.ExpiresAt.Equal(when.Add(5*time.Minute)) {
			t.Errorf("kept is %+v", kept)
		}
		got, err := c.Sign(kept, d.signing(), answer, when.Add(time.Minute), d.finds(p))
		ok(t, err)
		if got.Spend != (once.Spend{Purpose: once.Signing, Key: key}) || !got.Proof.PhishingResistant || !got.Proof.UserVerified || got.Proof.Credential != p.ID ||
			got.Proof.Subject != d.person || got.Use.SignCount != 6 || got.Count != "ok" || !bytes.Equal(got.Key, p.PublicKey) || !got.Until.Equal(kept.ExpiresAt) {
			t.Errorf("%+v", got)
		}
		var said struct {
			V                                  int
			Req, By, Dec, RP, Org, View, Nonce string
			Iat, Exp                           int64
		}
		ok(t, json.Unmarshal(got.Ceremony, &said))
		strict, err := canon.Strict(got.Ceremony, canon.ActionLimits)
		ok(t, err)
		s := d.signing()
		if !bytes.Equal(strict, got.Ceremony) || said.V != 1 || said.Req != "pub_1" || said.By != d.person || said.Dec != "publish" || said.RP != rpID || said.Org != origin ||
			said.View != encode(s.View[:]) || said.Iat != when.Unix() || said.Exp != said.Iat+300 || len(said.Nonce) != 43 {
			t.Errorf("the ceremony says %s", got.Ceremony)
		}
		// As anybody may verify it.
		ch := canon.H("countersign/v1/ceremony", got.Ceremony)
		want := canon.H("countersign/v1/challenge/stepup", s.Action[:], ch[:])
		var client struct{ Type, Challenge, Origin string }
		ok(t, json.Unmarshal(got.ClientData, &client))
		if client.Type != "webauthn.get" || client.Challenge != encode(want[:]) || client.Origin != origin {
			t.Errorf("the browser signed %s", got.ClientData)
		}
		rp := sha256.Sum256([]byte(rpID))
		if !bytes.Equal(got.AuthenticatorData[:32], rp[:]) || got.AuthenticatorData[32]&5 != 5 || len(got.Signature) == 0 {
			t.Errorf("the authenticator signed %x", got.AuthenticatorData)
		}
	}
}

// What browsers are asked for: a signature of these passkeys, by whoever they verify.
func TestSigningOptions(t *testing.T) {
	c := ceremony(t)
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	d.holder.Passkeys = []factor.Passkey{d.enrolled(t, c)}
	var challenges []string
	for range 2 {
		raw, kept, err := c.SigningOptions(d.holder, d.signing(), when)
		ok(t, err)
		var o struct {
			PublicKey struct {
				Challenge, RPID, UserVerification string
				AllowCredentials                  []struct{ ID string }
				Timeout                           int
				Extensions                        map[string]any
			} `json:"publicKey"`
			Mediation string
		}
		ok(t, json.Unmarshal(raw, &o))
		k := o.PublicKey
		challenge, err := base64.RawURLEncoding.DecodeString(k.Challenge)
		if err != nil || len(challenge) != 32 || k.RPID != rpID || k.UserVerification != "required" || len(k.AllowCredentials) != 1 ||
			k.AllowCredentials[0].ID != encode(d.cred.ID) || k.Timeout != 120_000 || len(k.Extensions) != 0 || o.Mediation != "" {
			t.Errorf("%s", raw)
		}
		if kept.Key != once.KeyOf(once.Signing, k.Challenge) {
			t.Error("it is kept by another name")
		}
		challenges = append(challenges, k.Challenge)
	}
	if challenges[0] == challenges[1] {
		t.Error("the challenge is the same again")
	}
	if _, _, err := c.SigningOptions(factor.Holder{Handle: d.holder.Handle}, d.signing(), when); err == nil {
		t.Error("with no passkey, any would do")
	}
}

// A challenge is for one thing, as it is and as it was shown, for one person in one
// browser, for five minutes; whoever answers another one signed nothing.
func TestSignStale(t *testing.T) {
	c := ceremony(t)
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	p := d.enrolled(t, c)
	answer, kept := d.asked(t, c, p)
	_, later := d.asked(t, c, p)
	never := func(_, _ []byte) (factor.Holder, factor.Passkey, error) {
		t.Error("a passkey was looked for")
		return d.holder, p, nil
	}
	as := func(change func(*factor.Signing)) factor.Signing {
		s := d.signing()
		change(&s)
		return s
	}
	value := func(change func(*once.Value)) once.Value {
		v := kept
		change(&v)
		return v
	}
	elsewhere, err := factor.NewCeremony(rpID, "https://id.example.com", func() [][]byte { return [][]byte{key} })
	ok(t, err)
	for name, tc := range map[string]struct {
		by      *factor.Ceremony
		kept    once.Value
		signing factor.Signing
		after   time.Duration
	}{
		"another thing":          {c, kept, as(func(s *factor.Signing) { s.Request = "pub_2" }), 0},
		"another person":         {c, kept, as(func(s *factor.Signing) { s.Person = id.New(id.Person) }), 0},
		"another decision":       {c, kept, as(func(s *factor.Signing) { s.Decision = "withdraw" }), 0},
		"another hash":           {c, kept, as(func(s *factor.Signing) { s.Action[0] ^= 1 }), 0},
		"another text":           {c, kept, as(func(s *factor.Signing) { s.View = factor.ViewHash("what is shown ") }), 0},
		"another browser":        {c, kept, as(func(s *factor.Signing) { s.Browser = "another" }), 0},
		"another origin":         {elsewhere, kept, d.signing(), 0},
		"too late":               {c, kept, d.signing(), factor.ChallengeLifetime},
		"too early":              {c, kept, d.signing(), -time.Second},
		"the next challenge":     {c, later, d.signing(), 0},
		"another purpose":        {c, value(func(v *once.Value) { v.Purpose = once.StepUp }), d.signing(), 0},
		"bound to another":       {c, value(func(v *once.Value) { v.Bound = "pub_2 " + d.person }), d.signing(), 0},
		"kept under other names": {c, value(func(v *once.Value) { v.Key[0] ^= 1 }), d.signing(), 0},
		"nothing kept":           {c, value(func(v *once.Value) { v.Data = nil }), d.signing(), 0},
	} {
		got, err := tc.by.Sign(tc.kept, tc.signing, answer, when.Add(tc.after), never)
		if problem.CodeOf(err) != "signing_stale" || got.Signature != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Sign(kept, d.signing(), answer, when.Add(factor.ChallengeLifetime-time.Second), d.finds(p)); err != nil {
		t.Errorf("in time, and as it was asked: %v", err)
	}
}

// No sign-in, step-up or enrolment is taken for a signature, and no signature for any of
// them.
func TestSignIsNoSignIn(t *testing.T) {
	c := ceremony(t)
	d := newDevice(virtualwebauthn.AuthenticatorOptions{})
	p := d.enrolled(t, c)
	signature, kept := d.asked(t, c, p)
	for _, purpose := range []once.Purpose{once.SignIn, once.StepUp, once.Enrol, once.Signing} {
		if _, err := c.Assert(purpose, bound, signature, when, d.finds(p)); problem.CodeOf(err) != "challenge_invalid" {
			t.Errorf("a signature as %d: %v", purpose, err)
		}
	}
	stepUp, err := c.StepUpOptions(d.holder, bound, when)
	ok(t, err)
	for _, answer := range [][]byte{d.signIn(t, c, site), d.answer(t, stepUp, site)} {
		if _, err := c.Sign(kept, d.signing(), answer, when, d.finds(p)); problem.CodeOf(err) != "signing_stale" {
			t.Errorf("a sign-in as a signature: %v", err)
		}
	}
}

// Everything that refuses a sign-in refuses a signature, and some more.
func TestSignRefused(t *testing.T) {
	c := ceremony(t)
	for name, tc := range map[string]struct {
		device func(*device)
		stored func(*factor.Passkey)
		rp     *virtualwebauthn.RelyingParty
		client func(c map[string]any)
		edit   func(outer, response map[string]any)
		code   string
	}{
		"user not verified":  {device: func(d *device) { d.auth.Options.UserNotVerified = true }},
		"user not there":     {device: func(d *device) { d.auth.Options.UserNotPresent = true }},
		"backup flags":       {device: func(d *device) { d.auth.Options.BackupState = true }},
		"became backup able": {device: func(d *device) { d.auth.Options.BackupEligible = true }},
		"another passkey":    {stored: func(p *factor.Passkey) { p.ID = id.New(id.Credential) }},
		"another site's":     {rp: &virtualwebauthn.RelyingParty{ID: "example.com", Origin: origin}},
		"another port":       {rp: &virtualwebauthn.RelyingParty{ID: rpID, Origin: "https://id.example.com"}},
		"in a frame":         {client: func(c map[string]any) { c["crossOrigin"] = true }},
		"below a page":       {client: func(c map[string]any) { c["topOrigin"] = origin }},
		"made for enrolment": {client: func(c map[string]any) { c["type"] = "webauthn.create" }},
		"handle of another":  {device: func(d *device) { d.auth.Options.UserHandle = factor.HandleOf(id.New(id.Person)) }},
		"for another app":    {edit: func(o, _ map[string]any) { o["clientExtensionResults"] = map[string]any{"appid": false} }},
		"client data of a page": {edit: func(o, _ map[string]any) {
			o["clientExtensionResults"] = map[string]any{"remoteClientDataJSON": true}
		}},
		"a bogus signature": {edit: func(_, r map[string]any) {
			b := decode(t, r["signature"])
			b[len(b)-1] ^= 1
			r["signature"] = encode(b)
		}},
		"data changed after": {edit: func(_, r map[string]any) {
			b := decode(t, r["authenticatorData"])
			binary.BigEndian.PutUint32(b[33:], 99)
			r["authenticatorData"] = encode(b)
		}},
		"a copy of the key": {stored: func(p *factor.Passkey) { p.SignCount = 9 }, code: "factor_counter"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(virtualwebauthn.AuthenticatorOptions{})
			p := d.enrolled(t, c)
			d.holder.Passkeys = []factor.Passkey{p}
			o, kept, err := c.SigningOptions(d.holder, d.signing(), when)
			ok(t, err)
			if tc.device != nil {
				tc.device(d)
			}
			if tc.stored != nil {
				tc.stored(&p)
			}
			rp := site
			if tc.rp != nil {
				rp = *tc.rp
			}
			answer := d.answer(t, o, rp)
			if tc.client != nil {
				answer = d.client(t, answer, tc.client)
			}
			if tc.edit != nil {
				answer = edit(t, answer, tc.edit)
			}
			got, err := c.Sign(kept.Value, d.signing(), answer, when, d.finds(p))
			want := tc.code
			if want == "" {
				want = "passkey_refused"
			}
			if problem.CodeOf(err) != want || got.Signature != nil || got.Proof.Method != "" {
				t.Errorf("%v, %+v", err, got)
			}
		})
	}
}
