package clilogin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Profile is one signed-in person at one server, for one client. Its fields are
// set before first use and not changed.
type Profile struct {
	Store    *Store
	Name     string // CheckProfile
	ClientID string // public client with the redirect http://127.0.0.1/callback
	App      string // what pages call the program
	HTTP     *http.Client
	Now      func() time.Time // nil: time.Now
}

func (p *Profile) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// Credential reads what the profile holds; errors as Store.Load.
func (p *Profile) Credential() (*Credential, error) { return p.Store.Load(p.Name) }

// usableCredential is Credential, unless the server has ended it.
func (p *Profile) usableCredential() (*Credential, error) {
	c, err := p.Credential()
	if err != nil {
		return nil, err
	}
	if !c.EndedAt.IsZero() {
		return nil, p.loginNeeded("Your sign-in at " + c.Issuer + " has ended.")
	}
	return c, nil
}

func (p *Profile) loginNeeded(detail string) *problem.Error {
	return fault(problem.Unauthenticated, CodeLoginNeeded, detail).WithHint(p.Store.loginCommand(p.Name))
}

// client makes the token client of a credential; it asks the server where its
// endpoints are.
func (p *Profile) client(ctx context.Context, c *Credential) (*countersign.TokenClient, error) {
	key, err := c.key()
	if err != nil {
		return nil, storageFault(CodeStorageDamaged, "The credential "+p.Store.Path(p.Name)+" is damaged.", err).WithHint(p.Store.loginCommand(p.Name))
	}
	meta, err := countersign.Discover(ctx, c.Issuer, p.HTTP)
	if err != nil {
		return nil, network(err)
	}
	return p.tokenClient(meta, c.ClientID, key), nil
}

func (p *Profile) tokenClient(meta *countersign.Metadata, clientID string, key *countersign.DPoPKey) *countersign.TokenClient {
	return &countersign.TokenClient{
		Metadata: meta, Auth: countersign.ClientAuth{ID: clientID}, Key: key, HTTP: p.HTTP, Now: p.Now,
	}
}

// TokenRequest says which access token is wanted.
type TokenRequest struct {
	Audience string        // resource identifier; "" for the client's default
	Scope    []string      // narrower than granted; empty for all of it
	MinTTL   time.Duration // life that must be left
}

// Token gives an access token: the one that is kept, or a fresh one. However
// many processes ask, one refreshes; while it does, those whose token is still
// good get that.
//
// Errors: CodeLoginNeeded, CodeStepUpNeeded, CodeDenied, CodeUnreachable, CodeStorage…,
// or what the server refused with (invalid_target, invalid_scope).
func (p *Profile) Token(ctx context.Context, r TokenRequest) (Token, error) {
	if _, err := p.usableCredential(); err != nil {
		return Token{}, err
	}
	v := &view{p: p, audience: r.Audience, narrowed: sorted(r.Scope), minTTL: r.MinTTL}
	cred, err := v.fetch(ctx)
	if err != nil {
		return Token{}, p.explain(v, err)
	}
	if !v.long(cred) {
		return Token{}, fault(problem.Invalid, "token_too_short", "The server's tokens do not last as long as is asked for.").
			WithHint("ask for less with --min-ttl")
	}
	c, err := p.Credential()
	if err != nil {
		return Token{}, err
	}
	if t, ok := c.find(v.audience, v.narrowed); ok && t.Value == cred.AccessToken {
		return t, nil
	}
	return Token{
		Audience: v.audience, Narrowed: v.narrowed, Value: cred.AccessToken, Type: cred.TokenType,
		Scope: strings.Fields(cred.Scope), IssuedAt: cred.IssuedAt, ExpiresAt: cred.ExpiresAt,
	}, nil
}

// fetch gets the view's token. A refresh that is under way when the command is
// stopped gets a moment to finish: its answer is the next refresh token.
func (v *view) fetch(ctx context.Context) (cred countersign.Credential, err error) {
	done := make(chan struct{})
	source := countersign.NewTokenSource(v, v.renew)
	go func() {
		defer close(done)
		cred, err = source.Credential(context.WithoutCancel(ctx))
	}()
	select {
	case <-done:
		return cred, err
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(stopGrace):
	}
	return countersign.Credential{}, ctx.Err()
}

// stopGrace is how long a stopped command waits for an answer that is on its way.
const stopGrace = 2 * time.Second

func sorted(list []string) []string {
	out := union(nil, list)
	slices.Sort(out)
	return out
}

// explain turns the error of a refresh into what the person can do, and
// remembers that a grant is over so that its dead token is not shown again.
func (p *Profile) explain(v *view, err error) error {
	var r *countersign.ResponseError
	switch {
	case errors.As(err, &r) && r.Stands:
		return p.notNow(r)
	case countersign.IsCode(err, "invalid_grant"):
		p.markEnded(v.tried, "invalid_grant")
		return withReference(p.loginNeeded("Your sign-in has ended: the server does not take it any more.").Because(err), ReferenceOf(err))
	case countersign.IsCode(err, "invalid_target"):
		return withReference(fault(problem.Denied, "invalid_target", "Your sign-in does not cover "+v.audience+".").Because(err).
			WithHint(p.Store.loginCommand(p.Name)+" --resource "+v.audience), ReferenceOf(err))
	case countersign.IsCode(err, "invalid_scope"):
		return withReference(fault(problem.Denied, "invalid_scope", "Your sign-in does not cover that scope.").Because(err).
			WithHint(p.Store.loginCommand(p.Name)+" --scope '"+strings.Join(v.narrowed, " ")+"'"), ReferenceOf(err))
	case errors.Is(err, countersign.ErrLoginRequired), errors.Is(err, countersign.ErrNoCredential):
		if problem.From(err) == nil {
			return p.loginNeeded("Your sign-in has ended.")
		}
	}
	return network(err)
}

// needed is the refusal of a token until the person has shown more.
type needed struct {
	error
	challenge countersign.Challenge
}

// Unwrap gives the problem.
func (n *needed) Unwrap() error { return n.error }

// notNow is a refusal of a token that leaves the grant as it is.
func (p *Profile) notNow(r *countersign.ResponseError) error {
	if r.Challenge == nil {
		f := fault(problem.Denied, CodeDenied, "The server gives no token now, and your sign-in stands: "+strings.TrimSuffix(r.Description, ".")+".").Because(r)
		f.Review = r.Review
		return withReference(f, r.Ref)
	}
	f := fault(problem.StepUp, CodeStepUpNeeded, stepUpSentence(*r.Challenge)).Because(r)
	if c, err := p.Credential(); err == nil {
		f = f.WithHint(p.stepUpCommand(c, *r.Challenge))
	}
	return &needed{withReference(f, r.Ref), *r.Challenge}
}

// markEnded notes in the file that its refresh token is dead, if it is still
// the one that was tried. It tries only: the next command finds out again.
func (p *Profile) markEnded(refreshToken, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	release, err := p.Store.lock(ctx, p.Name, lockWrite)
	if err != nil {
		return
	}
	defer release()
	c, err := p.Credential()
	if err != nil || c.RefreshToken != refreshToken || !c.EndedAt.IsZero() {
		return
	}
	c.EndedAt, c.EndedWhy, c.RefreshToken, c.Access = p.now().UTC(), why, "", nil
	_ = p.Store.write(p.Name, c, c.Generation)
}

// view is a profile's credential as the token for one audience: a
// countersign.TokenStore that many processes share.
type view struct {
	p        *Profile
	audience string
	narrowed []string
	minTTL   time.Duration
	patient  bool   // wait for another process although the token is good
	tried    string // refresh token last sent
	fault    error  // of the last refresh
}

// errBusy: another process is refreshing, and the token at hand is still good.
var errBusy = errors.New("another process is refreshing")

func (v *view) long(c countersign.Credential) bool {
	return v.p.now().Add(max(v.minTTL, sendMargin)).Before(c.ExpiresAt)
}

func (v *view) of(c *Credential) countersign.Credential {
	out := countersign.Credential{RefreshToken: c.RefreshToken, IDToken: c.IDToken, Generation: c.Generation, TokenType: "DPoP"}
	if t, ok := c.find(v.audience, v.narrowed); ok && t.usable(v.p.now(), v.minTTL) {
		out.AccessToken, out.TokenType, out.Scope = t.Value, t.Type, strings.Join(t.Scope, " ")
		out.IssuedAt, out.ExpiresAt = t.IssuedAt, t.ExpiresAt
	}
	return out
}

// Load implements countersign.TokenStore.
func (v *view) Load(context.Context) (countersign.Credential, error) {
	c, err := v.p.Credential()
	if err != nil {
		if problem.CodeOf(err) == CodeLoginNeeded {
			err = errors.Join(countersign.ErrNoCredential, err)
		}
		return countersign.Credential{}, err
	}
	return v.of(c), nil
}

// Update implements countersign.TokenStore. The lock is held over the refresh,
// and what came of it is on the disk before the next process looks.
func (v *view) Update(ctx context.Context, change func(countersign.Credential) (countersign.Credential, error)) (countersign.Credential, error) {
	release, err := v.lock(ctx)
	if errors.Is(err, errBusy) { // what the other process stored, or still stands, serves
		return v.Load(ctx)
	}
	if err != nil {
		return countersign.Credential{}, err
	}
	defer release()
	c, err := v.p.usableCredential()
	if err != nil {
		return countersign.Credential{}, err
	}
	before := v.of(c)
	next, err := change(before)
	if err != nil || next.Generation == before.Generation {
		return next, err
	}
	over := c.Generation
	c.RefreshToken = next.RefreshToken
	if next.IDToken != "" {
		c.IDToken = next.IDToken
	}
	c.keep(v.token(next), v.p.now())
	if err := v.p.Store.write(v.p.Name, c, over); err != nil {
		// The refresh token has moved on and could not be kept. The token at
		// hand is good; the server answers a repeated refresh with the same
		// successor for a while, so nothing is lost if the disk comes back.
		return countersign.Credential{}, err
	}
	next.Generation = c.Generation
	return next, nil
}

// lock waits for the profile's lock, unless the token at hand is good enough.
func (v *view) lock(ctx context.Context) (func(), error) {
	release, ok, err := v.p.Store.tryLock(v.p.Name, lockWrite)
	if err != nil || ok {
		return release, err
	}
	if !v.patient {
		if c, err := v.p.Credential(); err == nil && v.of(c).AccessToken != "" {
			return nil, errBusy
		}
	}
	return v.p.Store.lock(ctx, v.p.Name, lockWrite)
}

// token is an answer of the token endpoint as it is kept.
func (v *view) token(c countersign.Credential) Token {
	t := Token{
		Audience: v.audience, Narrowed: v.narrowed, Value: c.AccessToken, Type: c.TokenType,
		Scope: strings.Fields(c.Scope), IssuedAt: c.IssuedAt.UTC(), ExpiresAt: c.ExpiresAt.UTC(),
	}
	s := peekUnverified(c.AccessToken)
	t.ACR, t.AuthTime, t.Audiences = s.ACR, s.authTime(), s.audiences()
	return t
}

// renew is the countersign.Renewal of the view.
func (v *view) renew(ctx context.Context, cur countersign.Credential) (countersign.Credential, error) {
	if cur.RefreshToken == "" {
		return countersign.Credential{}, countersign.ErrLoginRequired
	}
	c, err := v.p.usableCredential()
	if err != nil {
		return countersign.Credential{}, err
	}
	client, err := v.p.client(ctx, c)
	if err != nil {
		return countersign.Credential{}, err
	}
	v.tried = cur.RefreshToken
	next, err := client.Refresh(ctx, cur.RefreshToken, v.audience, v.narrowed...)
	v.fault = err
	return next, err
}

// Ended is what Logout did.
type Ended struct {
	Issuer  string
	Revoked bool // the server has ended the grant
}

// Logout removes the profile's credential from this computer; with revoke the
// server ends the grant first (RFC 7009), and when it cannot be reached nothing
// is removed. A generation newer than the one that was read is left alone.
// Errors: CodeLoginNeeded if there is nothing, CodeUnreachable, CodeStorage….
func (p *Profile) Logout(ctx context.Context, revoke bool) (Ended, error) {
	release, err := p.Store.lock(ctx, p.Name, lockWrite)
	if err != nil {
		return Ended{}, err
	}
	defer release()
	c, err := p.Credential()
	if err != nil {
		if problem.CodeOf(err) == CodeStorageDamaged && !revoke {
			return Ended{}, p.Store.remove(p.Name, 0)
		}
		return Ended{}, err
	}
	e := Ended{Issuer: c.Issuer}
	if revoke && c.RefreshToken != "" {
		client, err := p.client(ctx, c)
		if err == nil {
			err = network(client.Revoke(ctx, c.RefreshToken, "refresh_token"))
		}
		if err != nil {
			if f := problem.From(err); f != nil {
				err = f.WithHint(p.logoutCommand() + "   (here only; the server keeps the grant until it ends)")
			}
			return e, err
		}
		e.Revoked = true
	}
	return e, p.Store.remove(p.Name, c.Generation)
}

func (p *Profile) logoutCommand() string {
	return strings.Replace(p.Store.loginCommand(p.Name), " login", " logout", 1)
}
