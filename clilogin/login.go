package clilogin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/problem"
)

// PromptTimeout is how long a person has: as long as the server keeps a
// request waiting.
const PromptTimeout = 10 * time.Minute

// Prompt is what a person is asked to do in a browser.
type Prompt struct {
	URL    string                 // no secret
	Port   int                    // of 127.0.0.1, where the browser comes back to
	Until  time.Time              // when the command stops waiting
	StepUp *countersign.Challenge // what a resource asked for; nil for a login
	Issuer string

	// ByCode says that the server signs devices in by code (Login.Device).
	ByCode bool
	// Of a sign-in by code: what the person types, and where; URL has it in it.
	// "" for others.
	Code, CodeURL string
}

// Prompter tells a person. Both methods MUST return at once.
type Prompter interface {
	// Ask shows the address and may open a browser. It is called once per
	// authorization, and again for each code that replaces an expired one; an error
	// ends it.
	Ask(p Prompt) error
	// Join says that another process is asking the same person already and is
	// being waited for.
	Join()
}

// Login says how to sign in.
type Login struct {
	Issuer    string
	Scope     []string       // empty: the server's default for the client
	Resources []string       // likewise
	ACR       []string       // sufficient values; empty: whatever the server wants
	MaxAge    *time.Duration // how old the sign-in may be; nil: as the server wants
	Prompter  Prompter       // nil: CodeLoginNeeded instead of asking
	Timeout   time.Duration
	// Device signs in with a code that is typed into a browser on any machine (RFC
	// 8628), where this one has none. The server must have it on: CodeDeviceOff.
	Device bool
}

// SignedIn is what came of a login or a step-up.
type SignedIn struct {
	Credential *Credential
	Joined     bool  // another process did it
	OldKept    error // why the replaced grant could not be ended at the server; nil if it was, or there was none
}

// Login signs a person in and replaces what the profile held; the grant that
// was replaced is then ended at the server. At most one process per profile
// asks at a time: later ones wait for it.
//
// Errors: CodeLoginNeeded without a Prompter, CodeDenied, CodeTimedOut,
// CodeUnreachable, CodeStorage…, or the server's own code.
func (p *Profile) Login(ctx context.Context, l Login) (SignedIn, error) {
	if err := CheckProfile(p.Name); err != nil {
		return SignedIn{}, err
	}
	if l.Prompter == nil {
		return SignedIn{}, p.loginNeeded("Signing in needs a person and a browser.")
	}
	before, err := p.Credential()
	if err != nil && problem.CodeOf(err) != CodeLoginNeeded && problem.CodeOf(err) != CodeStorageDamaged {
		return SignedIn{}, err
	}
	ctx, cancel := p.within(ctx, l.Timeout)
	defer cancel()
	release, waited, err := p.promptLock(ctx, l.Prompter)
	if err != nil {
		return SignedIn{}, timedOut(err)
	}
	defer release()
	plain := len(l.Scope)+len(l.Resources)+len(l.ACR) == 0 && l.MaxAge == nil
	if now, err := p.usableCredential(); waited && plain && err == nil && now.Issuer == l.Issuer &&
		(before == nil || now.LoginAt.After(before.LoginAt)) {
		return SignedIn{Credential: now, Joined: true}, nil
	}
	key, err := countersign.GenerateDPoPKey()
	if err != nil {
		return SignedIn{}, err
	}
	meta, err := countersign.Discover(ctx, l.Issuer, p.HTTP)
	if err != nil {
		return SignedIn{}, network(err)
	}
	if err := writable(p); err != nil { // before the person does their part
		return SignedIn{}, err
	}
	way := p.authorize
	if l.Device {
		way = p.byCode
	}
	got, err := way(ctx, authorization{
		meta: meta, clientID: p.ClientID, key: key, scope: l.Scope, resources: l.Resources, acr: l.ACR, maxAge: l.MaxAge, prompter: l.Prompter,
	})
	if err != nil {
		return SignedIn{}, err
	}
	return p.install(ctx, got)
}

// writable finds out before a person is asked whether the answer can be kept.
func writable(p *Profile) error {
	release, _, err := p.Store.tryLock(p.Name, lockPrompt)
	if release != nil {
		release()
	}
	return err
}

// within bounds the wait for a person.
func (p *Profile) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		d = PromptTimeout
	}
	return context.WithTimeout(ctx, d)
}

func timedOut(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && problem.From(err) == nil {
		return fault(problem.Unavailable, CodeTimedOut, "Nobody answered in the browser in time.").Because(err)
	}
	return err
}

// promptLock takes the profile's right to ask a person.
func (p *Profile) promptLock(ctx context.Context, prompter Prompter) (release func(), waited bool, err error) {
	release, ok, err := p.Store.tryLock(p.Name, lockPrompt)
	if err != nil || ok {
		return release, false, err
	}
	prompter.Join()
	release, err = p.Store.lock(ctx, p.Name, lockPrompt)
	return release, true, err
}

// authorization is one trip through the browser.
type authorization struct {
	meta      *countersign.Metadata
	clientID  string
	key       *countersign.DPoPKey
	scope     []string
	resources []string
	acr       []string
	maxAge    *time.Duration
	hint      string // id_token_hint
	audience  string // of the token to redeem the code for; "" for the default
	subject   string // who it must be; "" for anybody
	step      string // what is confirmed, for the last page; "" for a login
	challenge *countersign.Challenge
	prompter  Prompter
}

// url is the authorization request (RFC 6749 section 4.1.1, RFC 7636, RFC 8707,
// RFC 9449 section 10).
func (a *authorization) url(redirect, state, verifier string) (string, error) {
	u, err := url.Parse(a.meta.AuthorizationEndpoint)
	if err != nil || a.meta.AuthorizationEndpoint == "" {
		return "", fault(problem.Invalid, "no_authorization_endpoint", "The server has no page to sign in at.")
	}
	sum := sha256.Sum256([]byte(verifier))
	q := u.Query()
	q.Set("response_type", "code")
	q.Set("client_id", a.clientID)
	q.Set("redirect_uri", redirect)
	q.Set("state", state)
	q.Set("code_challenge", base64.RawURLEncoding.EncodeToString(sum[:]))
	q.Set("code_challenge_method", "S256")
	q.Set("dpop_jkt", a.key.Thumbprint())
	for name, list := range map[string][]string{"scope": a.scope, "acr_values": a.acr} {
		if len(list) > 0 {
			q.Set(name, strings.Join(list, " "))
		}
	}
	if len(a.resources) > 0 {
		q["resource"] = a.resources
	}
	if a.maxAge != nil {
		q.Set("max_age", strconv.FormatInt(int64(*a.maxAge/time.Second), 10))
	}
	if a.hint != "" {
		q.Set("id_token_hint", a.hint)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// authorize sends a person through the browser and redeems the code; the result
// is not stored yet.
func (p *Profile) authorize(ctx context.Context, a authorization) (*Credential, error) {
	state, verifier := rand.Text()+rand.Text(), rand.Text()+rand.Text()
	back, err := listen(p.App, a.meta.Issuer, state, a.meta.IssParameterSupported)
	if err != nil {
		return nil, err
	}
	defer back.close()
	c, err := p.through(ctx, a, back, state, verifier)
	if err != nil {
		err = timedOut(err)
		back.settle(notSignedIn(p.App, err))
		return nil, err
	}
	back.settle(signedIn(p.App, a.step))
	return c, nil
}

func (p *Profile) through(ctx context.Context, a authorization, back *loopback, state, verifier string) (*Credential, error) {
	address, err := a.url(back.redirectURI(), state, verifier)
	if err != nil {
		return nil, err
	}
	until, _ := ctx.Deadline()
	if err := a.prompter.Ask(Prompt{URL: address, Port: back.port(), Until: until, StepUp: a.challenge, Issuer: a.meta.Issuer, ByCode: a.meta.DeviceAuthorizationEndpoint != ""}); err != nil {
		return nil, err
	}
	code, err := back.wait(ctx)
	if err != nil {
		return nil, err
	}
	client := p.tokenClient(a.meta, a.clientID, a.key)
	answer, err := client.AuthorizationCode(ctx, countersign.CodeRequest{
		Code: code, RedirectURI: back.redirectURI(), Verifier: verifier, Resource: a.audience,
	})
	if err != nil {
		return nil, refused(err)
	}
	c, err := p.credential(a, answer)
	if err != nil {
		return nil, err
	}
	if a.subject != "" && c.Subject != a.subject {
		// What was just given to somebody else must not stay behind.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = client.Revoke(end, c.RefreshToken, "refresh_token")
		return nil, fault(problem.Denied, CodeWrongPerson, "The browser answered as somebody else; nothing was changed.").
			WithHint("sign out in the browser, then run the command again")
	}
	return c, nil
}

// refused is a code that the token endpoint did not take.
func refused(err error) error {
	var r *countersign.ResponseError
	if errors.As(err, &r) && r.Status < 500 {
		detail := "The server refused to finish the sign-in"
		if r.Description != "" {
			detail += ": " + r.Description
		}
		return withReference(fault(problem.Denied, r.Code, strings.TrimSuffix(detail, ".")+".").Because(err), r.Ref)
	}
	return network(err)
}

// credential is an answer of the token endpoint as it will be kept.
func (p *Profile) credential(a authorization, answer countersign.Credential) (*Credential, error) {
	pem, err := a.key.Marshal()
	if err != nil {
		return nil, err
	}
	now := p.now().UTC()
	c := &Credential{
		Issuer: a.meta.Issuer, ClientID: a.clientID, IDToken: answer.IDToken, Key: string(pem), RefreshToken: answer.RefreshToken,
		Asked: a.scope, AskedFor: a.resources, LoginAt: now,
	}
	v := &view{p: p, audience: a.audience}
	t := v.token(answer)
	s := peekUnverified(answer.AccessToken)
	if who := peekUnverified(answer.IDToken); who.Subject != "" {
		c.Name, c.Username = who.Name, who.Username
		if s.Subject == "" {
			s = who
		}
	}
	c.Subject, c.ACR, c.AMR, c.AuthTime = s.Subject, s.ACR, s.AMR, s.authTime()
	c.keep(t, now)
	if a.audience == "" && len(t.Audiences) == 1 {
		t.Audience = t.Audiences[0]
		c.keep(t, now)
	}
	return c, nil
}

// install puts a new credential in the place of the profile's and then ends the
// grant that it replaces.
func (p *Profile) install(ctx context.Context, c *Credential) (SignedIn, error) {
	old, err := p.swap(ctx, c)
	if err != nil {
		// Nothing was stored: the new grant must not stay behind unseen.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if client, e := p.client(end, c); e == nil {
			_ = client.Revoke(end, c.RefreshToken, "refresh_token")
		}
		return SignedIn{}, err
	}
	return SignedIn{Credential: c, OldKept: p.endOld(ctx, old)}, nil
}

func (p *Profile) swap(ctx context.Context, c *Credential) (old *Credential, err error) {
	release, err := p.Store.lock(ctx, p.Name, lockWrite)
	if err != nil {
		return nil, timedOut(err)
	}
	defer release()
	old, err = p.Credential()
	var over uint64
	switch code := problem.CodeOf(err); {
	case err == nil:
		over = old.Generation
	case code != CodeLoginNeeded && code != CodeStorageDamaged:
		return nil, err
	}
	return old, p.Store.write(p.Name, c, over)
}

// endOld revokes the grant that was replaced (RFC 7009).
func (p *Profile) endOld(ctx context.Context, old *Credential) error {
	if old == nil || old.RefreshToken == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	client, err := p.client(ctx, old)
	if err != nil {
		return err
	}
	return network(client.Revoke(ctx, old.RefreshToken, "refresh_token"))
}

// StepUp has the person prove what a resource asks for: the same person, the
// scopes they had and those that are missing, and a token for audience at once.
// The new grant replaces the old. Errors as Login, and CodeStepUpNeeded without
// a prompter, CodeWrongPerson.
func (p *Profile) StepUp(ctx context.Context, audience string, ch countersign.Challenge, prompter Prompter, timeout time.Duration) (SignedIn, error) {
	before, err := p.usableCredential()
	if err != nil {
		return SignedIn{}, err
	}
	if prompter == nil {
		return SignedIn{}, withReference(fault(problem.StepUp, CodeStepUpNeeded, stepUpSentence(ch)).WithHint(p.stepUpCommand(before, ch)), ch.Ref)
	}
	ctx, cancel := p.within(ctx, timeout)
	defer cancel()
	release, waited, err := p.promptLock(ctx, prompter)
	if err != nil {
		return SignedIn{}, timedOut(err)
	}
	defer release()
	c, err := p.usableCredential()
	if err != nil {
		return SignedIn{}, err
	}
	if waited && c.LoginAt.After(before.LoginAt) && p.answers(c, audience, ch) {
		return SignedIn{Credential: c, Joined: true}, nil
	}
	key, err := c.key()
	if err != nil {
		return SignedIn{}, err
	}
	meta, err := countersign.Discover(ctx, c.Issuer, p.HTTP)
	if err != nil {
		return SignedIn{}, network(err)
	}
	a := authorization{
		meta: meta, clientID: c.ClientID, key: key, acr: ch.ACRValues, hint: c.IDToken, audience: audience, subject: c.Subject,
		step: method(ch), challenge: &ch, prompter: prompter, scope: c.Asked,
	}
	if ch.HasMaxAge {
		a.maxAge = &ch.MaxAge
	}
	if len(ch.Scope) > 0 {
		a.scope = union(c.Asked, c.Scope, ch.Scope)
	}
	// A login that named no resource was given the client's; naming one now
	// would take the others away.
	if len(c.AskedFor) > 0 {
		a.resources = union(c.AskedFor, []string{audience})
	}
	got, err := p.authorize(ctx, a)
	if err != nil {
		return SignedIn{}, err
	}
	got.Asked, got.Name, got.Username = c.Asked, orElse(got.Name, c.Name), orElse(got.Username, c.Username)
	if len(ch.Scope) > 0 {
		got.Asked = a.scope
	}
	got.Elevation = &Elevation{For: a.step, Scope: ch.Scope}
	if ch.HasMaxAge && !got.AuthTime.IsZero() {
		got.Elevation.Until = got.AuthTime.Add(ch.MaxAge)
	}
	return p.install(ctx, got)
}

func method(ch countersign.Challenge) string { return strings.TrimSpace(ch.Method + " " + ch.URL) }

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// answers guesses whether what another process brought meets a challenge; the
// resource decides.
func (p *Profile) answers(c *Credential, audience string, ch countersign.Challenge) bool {
	t, ok := c.find(audience, nil)
	if !ok || !t.usable(p.now(), 0) || ch.HasMaxAge && p.now().After(t.AuthTime.Add(ch.MaxAge)) {
		return false
	}
	return !slices.ContainsFunc(ch.Scope, func(s string) bool { return !slices.Contains(t.Scope, s) })
}

func stepUpSentence(ch countersign.Challenge) string {
	if ch.Description != "" {
		return strings.TrimSuffix(ch.Description, ".") + "."
	}
	return "This needs a newer or stronger sign-in."
}

// stepUpCommand signs in with what the challenge asks for, and with what the
// profile has.
func (p *Profile) stepUpCommand(c *Credential, ch countersign.Challenge) string {
	cmd := p.Store.loginCommand(p.Name)
	if len(ch.ACRValues) > 0 {
		cmd += " --acr '" + strings.Join(ch.ACRValues, " ") + "'"
	}
	if ch.HasMaxAge {
		cmd += " --max-age " + strconv.FormatInt(int64(ch.MaxAge/time.Second), 10) + "s"
	}
	if len(ch.Scope) > 0 {
		cmd += " --scope '" + strings.Join(union(c.Asked, c.Scope, ch.Scope), " ") + "'"
	}
	return cmd
}
