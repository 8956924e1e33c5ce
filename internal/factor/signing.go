package factor

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"

	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
)

// signingTime is how long the browser waits for a signature (mechanisms B9); the
// challenge itself lives as long as every other.
const signingTime = 2 * time.Minute

// Signing is what somebody is asked to sign: something pending, as they see it
// (mechanisms B5 to B7).
type Signing struct {
	Request  string   // the id of what is pending
	Person   string   // who signs
	Decision string   // what signing does: "publish"
	Action   [32]byte // the hash of what is pending
	View     [32]byte // ViewHash of the text that is shown of it
	Browser  string   // the browser and session that it is shown in
}

// ViewHash is the hash of the text that a page shows of what is signed (mechanisms
// B5).
func ViewHash(text string) [32]byte { return canon.H(canon.LabelView, []byte(text)) }

// bound names whose signature of what is pending it is: of one person's challenges for
// it only the newest is live (mechanisms B8).
func (s *Signing) bound() string { return s.Request + " " + s.Person }

// ceremony is what a signature commits to beside what is pending (mechanisms B6).
type ceremony struct {
	Version      int    `json:"v"` // 1
	Request      string `json:"req"`
	Person       string `json:"by"`
	Decision     string `json:"dec"`
	RelyingParty string `json:"rp"`
	Origin       string `json:"org"`
	IssuedAt     int64  `json:"iat"`
	ExpiresAt    int64  `json:"exp"`
	View         string `json:"view"`
	Nonce        string `json:"nonce"`
}

// challenge is what is signed of what is pending; text are the ceremony's canonical
// bytes. Signatures are step-ups that are tied to something pending (mechanisms B7).
func challenge(action [32]byte, text []byte) []byte {
	sum := canon.Challenge(canon.LabelChallengeStepUp, action, text)
	return sum[:]
}

// asked is what is kept of a challenge until it is answered. It says what no browser
// may say.
type asked struct {
	Ceremony    string   `json:"ceremony"` // its canonical bytes
	Action      []byte   `json:"action"`
	Browser     []byte   `json:"browser"`     // SHA-256 of Signing.Browser
	Credentials []string `json:"credentials"` // whose signature counts
}

// SigningOptions asks h for a signature with one of their passkeys, all of which must be
// of a kind that counts: the request options, and the challenge to keep, which takes the
// place of one that the same person was given for the same before.
func (c *Ceremony) SigningOptions(h Holder, s Signing, now time.Time) (json.RawMessage, once.Replace, error) {
	if len(h.Passkeys) == 0 {
		return nil, once.Replace{}, fmt.Errorf("factor: no passkey is named that may sign")
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	return c.signingOptions(h, s, nonce, now)
}

func (c *Ceremony) signingOptions(h Holder, s Signing, nonce []byte, now time.Time) (json.RawMessage, once.Replace, error) {
	now = now.UTC().Truncate(time.Second)
	until := now.Add(ChallengeLifetime)
	b64 := base64.RawURLEncoding.EncodeToString
	text, err := canon.Marshal(ceremony{
		Version: 1, Request: s.Request, Person: s.Person, Decision: s.Decision, RelyingParty: c.rpID, Origin: c.origin,
		IssuedAt: now.Unix(), ExpiresAt: until.Unix(), View: b64(s.View[:]), Nonce: b64(nonce),
	})
	if err != nil {
		return nil, once.Replace{}, err
	}
	browser := sha256.Sum256([]byte(s.Browser))
	kept := asked{Ceremony: string(text), Action: s.Action[:], Browser: browser[:]}
	for _, k := range h.Passkeys {
		kept.Credentials = append(kept.Credentials, k.ID)
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return nil, once.Replace{}, err
	}
	what := challenge(s.Action, text)
	options, err := c.asking(what, descriptors(h), signingTime)
	return options, once.Replace{Value: once.Value{
		Purpose: once.Signing, Key: once.KeyOf(once.Signing, b64(what)), Bound: s.bound(), Data: data, MadeAt: now, ExpiresAt: until,
	}}, err
}

// SigningKey names the challenge that a browser's answer is to.
func SigningKey(response []byte) (once.Key, error) {
	text, err := challengeOf(response)
	return once.KeyOf(once.Signing, text), err
}

// Signed is a signature that verified, with all that it takes to verify it again.
type Signed struct {
	Asserted
	Until             time.Time // the challenge's end
	Ceremony          []byte    // canonical bytes
	ClientData        []byte
	AuthenticatorData []byte
	Signature         []byte
	Key               []byte // the passkey's public key (COSE)
	Count             string // what became of the signature counter: ok, zero or regressed
}

var errSigning = problem.New(problem.Conflict, "signing_stale", "This page was loaded again, or what it shows has changed since.").
	WithHint("Load the page again, read it, and sign what it shows then.")

// StaleSigning is the refusal of an answer to a challenge that is not there any more.
func StaleSigning() *problem.Error { return errSigning }

// Sign verifies the answer to a challenge that was kept, v, against what is pending and
// shown now (mechanisms B11, B12). Whoever takes it spends the challenge.
func (c *Ceremony) Sign(v once.Value, s Signing, response []byte, now time.Time, find Find) (Signed, error) {
	text, err := challengeOf(response)
	if err != nil {
		return Signed{}, err
	}
	kept, err := c.kept(v, s, now)
	if err != nil {
		return Signed{}, err
	}
	want := base64.RawURLEncoding.EncodeToString(challenge(s.Action, []byte(kept.Ceremony)))
	if text != want || v.Key != once.KeyOf(once.Signing, want) {
		return Signed{}, errSigning
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return Signed{}, refused(err)
	}
	if out := parsed.ClientExtensionResults; out.AppID != nil || out.RemoteClientDataJSON != nil { // the latter lets a page supply an origin
		return Signed{}, refused(nil)
	}
	key, got, err := c.assert(c.expecting(want), parsed, now, func(credential, handle []byte) (Holder, Passkey, error) {
		h, k, err := find(credential, handle)
		if err == nil && !slices.Contains(kept.Credentials, k.ID) {
			err = refused(nil)
		}
		return h, k, err
	})
	if err != nil {
		return Signed{Asserted: got}, err
	}
	got.Spend = once.Spend{Purpose: once.Signing, Key: v.Key}
	return Signed{
		Asserted: got, Until: v.ExpiresAt, Ceremony: []byte(kept.Ceremony), ClientData: parsed.Raw.AssertionResponse.ClientDataJSON,
		AuthenticatorData: parsed.Raw.AssertionResponse.AuthenticatorData, Signature: parsed.Response.Signature, Key: key.PublicKey,
		Count: counted(got.Counter, parsed.Response.AuthenticatorData.Counter),
	}, nil
}

// counted says in a word what became of a signature counter (mechanisms B12).
func counted(back bool, count uint32) string {
	switch {
	case back:
		return "regressed"
	case count == 0:
		return "zero"
	}
	return "ok"
}

// kept reads what was kept of a challenge, and refuses one that is not for s: of
// something else, another person, another browser, another text, or no longer.
func (c *Ceremony) kept(v once.Value, s Signing, now time.Time) (asked, error) {
	var a asked
	var what ceremony
	if v.Purpose != once.Signing || json.Unmarshal(v.Data, &a) != nil || json.Unmarshal([]byte(a.Ceremony), &what) != nil {
		return a, errSigning
	}
	browser := sha256.Sum256([]byte(s.Browser))
	same := v.Bound == s.bound() && bytes.Equal(a.Browser, browser[:]) && bytes.Equal(a.Action, s.Action[:]) &&
		what.Request == s.Request && what.Person == s.Person && what.Decision == s.Decision && what.RelyingParty == c.rpID && what.Origin == c.origin &&
		what.View == base64.RawURLEncoding.EncodeToString(s.View[:])
	if !same || !now.Before(v.ExpiresAt) || now.Before(time.Unix(what.IssuedAt, 0)) {
		return a, errSigning
	}
	return a, nil
}
