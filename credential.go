package countersign

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Credential is what a client holds. It never shows itself in logs.
type Credential struct {
	AccessToken  string    `json:"access_token"`
	TokenType    string    `json:"token_type"` // "DPoP" or "Bearer"
	RefreshToken string    `json:"refresh_token,omitempty"`
	IDToken      string    `json:"id_token,omitempty"`
	Scope        string    `json:"scope,omitempty"` // of the access token, separated by spaces
	IssuedAt     time.Time `json:"issued_at"`
	ExpiresAt    time.Time `json:"expires_at"` // of the access token
	// Generation counts the renewals in a TokenStore. A newer one is never
	// overwritten by an older.
	Generation uint64 `json:"generation"`
}

// String implements fmt.Stringer without telling.
func (c Credential) String() string {
	return fmt.Sprintf("credential %d until %s", c.Generation, c.ExpiresAt.UTC().Format(time.RFC3339))
}

// GoString implements fmt.GoStringer without telling.
func (c Credential) GoString() string { return c.String() }

// LogValue implements slog.LogValuer without telling.
func (c Credential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// usable reports whether the access token has not expired; a second is left
// for the way to the server.
func (c Credential) usable(now time.Time) bool {
	return c.AccessToken != "" && now.Add(time.Second).Before(c.ExpiresAt)
}

// due reports whether it is time to renew: at 80 % of the lifetime, and up to a
// twentieth earlier, so that many holders do not all come at once.
func (c Credential) due(now time.Time) bool {
	if !c.usable(now) {
		return true
	}
	life := c.ExpiresAt.Sub(c.IssuedAt)
	early := life / 20 * time.Duration(c.AccessToken[len(c.AccessToken)-1]%16) / 16
	return !now.Before(c.IssuedAt.Add(life*4/5 - early))
}

// ErrNoCredential is what a TokenStore gives when it holds none.
var ErrNoCredential = errors.New("countersign: no credential is stored")

// TokenStore keeps one credential. Implementations that share it between
// processes MUST make Update exclude the other processes too.
type TokenStore interface {
	// Load reads the newest credential. It MUST give ErrNoCredential, alone or
	// wrapped, if there is none, and MUST NOT wait for an Update.
	Load(ctx context.Context) (Credential, error)
	// Update MUST hold an exclusive lock while it reads the newest credential
	// (the zero value if there is none), calls change with it, and stores what
	// change returns, durably, before it returns the same. If change fails,
	// nothing MUST change. A result of the same Generation need not be stored.
	Update(ctx context.Context, change func(Credential) (Credential, error)) (Credential, error)
}

// MemoryStore is a TokenStore of this process. The zero value holds nothing.
type MemoryStore struct {
	lock sync.Mutex // held during Update
	mu   sync.Mutex
	cred Credential
}

// NewMemoryStore makes a store that holds c.
func NewMemoryStore(c Credential) *MemoryStore { return &MemoryStore{cred: c} }

// Load implements TokenStore.
func (m *MemoryStore) Load(context.Context) (Credential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cred.AccessToken == "" && m.cred.RefreshToken == "" {
		return Credential{}, ErrNoCredential
	}
	return m.cred, nil
}

// Update implements TokenStore.
func (m *MemoryStore) Update(ctx context.Context, change func(Credential) (Credential, error)) (Credential, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	cur, err := m.Load(ctx)
	if err != nil && !errors.Is(err, ErrNoCredential) {
		return Credential{}, err
	}
	next, err := change(cur)
	if err != nil {
		return Credential{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cred = next
	return next, nil
}

// Renewal gets the next credential, given the current one (the zero value if
// there is none). It fails with ErrLoginRequired when only a new login helps.
type Renewal func(ctx context.Context, cur Credential) (Credential, error)

// RefreshRenewal renews with the refresh token. resource may be "" (what was
// granted).
func (c *TokenClient) RefreshRenewal(resource string) Renewal {
	return func(ctx context.Context, cur Credential) (Credential, error) {
		if cur.RefreshToken == "" {
			return Credential{}, ErrLoginRequired
		}
		next, err := c.Refresh(ctx, cur.RefreshToken, resource)
		if err == nil && next.IDToken == "" {
			next.IDToken = cur.IDToken
		}
		return next, err
	}
}

// CredentialsRenewal gets each token with client_credentials.
func (c *TokenClient) CredentialsRenewal(resource string, scopes ...string) Renewal {
	return func(ctx context.Context, _ Credential) (Credential, error) {
		return c.ClientCredentials(ctx, resource, scopes...)
	}
}

// TokenSource hands out a credential that is good now. Many goroutines cause
// one renewal; while it runs, those whose token is still good are not held up.
type TokenSource struct {
	store TokenStore
	renew Renewal
	now   func() time.Time

	mu     sync.Mutex
	cur    Credential
	flight *flight
	dead   string // refresh token that was refused for good: not tried again
	notNow deferral
}

// deferral is the refusal of a refresh token that stands: given again, and not asked for, until then.
type deferral struct {
	token string
	err   error
	until time.Time
}

// refusedFor is how long that is. Each refusal is on record at the issuer: a program that
// goes on calling while it is refused asks no more often.
const refusedFor = 5 * time.Second

type flight struct {
	done chan struct{}
	cred Credential
	err  error
}

// renewTimeout bounds one renewal. It is not tied to the request that happened
// to start it: a renewal that is given up half-way may have spent the token.
const renewTimeout = 30 * time.Second

// NewTokenSource makes a source over a store. renew may be nil: then a token is
// used until it expires.
func NewTokenSource(store TokenStore, renew Renewal) *TokenSource {
	return &TokenSource{store: store, renew: renew, now: time.Now}
}

// Credential gives a usable credential, renewed if it is time.
func (s *TokenSource) Credential(ctx context.Context) (Credential, error) {
	cur, err := s.current(ctx)
	if err != nil {
		return Credential{}, err
	}
	now := s.now()
	if !cur.due(now) || s.renew == nil && cur.usable(now) {
		return cur, nil
	}
	f, mine := s.start(ctx, cur)
	if !mine && cur.usable(now) {
		return cur, nil // somebody else is at it
	}
	next, err := f.wait(ctx)
	if err != nil && cur.usable(now) && ctx.Err() == nil {
		return cur, nil // a failed renewal does not end a token that is still good
	}
	return next, err
}

// Renew gives a credential other than used, which was refused: the store's if
// that is another one, else a renewed one.
func (s *TokenSource) Renew(ctx context.Context, used Credential) (Credential, error) {
	if cur, err := s.Reload(ctx); err == nil && cur.AccessToken != used.AccessToken && cur.usable(s.now()) {
		return cur, nil
	}
	f, _ := s.start(ctx, used)
	return f.wait(ctx)
}

// Reload reads the store again, for instance after a login changed it.
func (s *TokenSource) Reload(ctx context.Context) (Credential, error) {
	cur, err := s.store.Load(ctx)
	if err != nil {
		return Credential{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur = cur
	return cur, nil
}

func (s *TokenSource) current(ctx context.Context) (Credential, error) {
	s.mu.Lock()
	cur := s.cur
	s.mu.Unlock()
	if !cur.due(s.now()) {
		return cur, nil
	}
	cur, err := s.Reload(ctx)
	if errors.Is(err, ErrNoCredential) {
		return Credential{}, nil // a renewal may need none
	}
	return cur, err
}

// start joins the renewal that runs, or starts one; mine tells which.
func (s *TokenSource) start(ctx context.Context, stale Credential) (f *flight, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return s.flight, false
	}
	f = &flight{done: make(chan struct{})}
	s.flight = f
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewTimeout)
		defer cancel()
		f.cred, f.err = s.fly(ctx, stale)
		s.mu.Lock()
		if f.err == nil {
			s.cur = f.cred
		}
		s.flight = nil
		s.mu.Unlock()
		close(f.done)
	}()
	return f, true
}

// fly renews under the store's lock, unless another holder already has.
func (s *TokenSource) fly(ctx context.Context, stale Credential) (Credential, error) {
	if s.renew == nil {
		return Credential{}, ErrLoginRequired
	}
	var tried Credential
	next, err := s.store.Update(ctx, func(cur Credential) (Credential, error) {
		tried = cur
		if cur.AccessToken != stale.AccessToken && !cur.due(s.now()) {
			return cur, nil
		}
		s.mu.Lock()
		dead, not := cur.RefreshToken != "" && cur.RefreshToken == s.dead, s.notNow
		s.mu.Unlock()
		switch {
		case dead:
			return Credential{}, ErrLoginRequired
		case not.err != nil && cur.RefreshToken == not.token && s.now().Before(not.until):
			return Credential{}, not.err
		}
		next, err := s.renew(ctx, cur)
		if err != nil {
			s.refused(cur, err)
			return Credential{}, err
		}
		next.Generation = cur.Generation + 1
		return next, nil
	})
	if err == nil || !IsCode(err, "invalid_grant") {
		return next, err
	}
	// Another holder may have renewed without our lock: look once before giving
	// up. Nothing is deleted: what is stored may be newer than what we tried.
	if cur, lerr := s.store.Load(ctx); lerr == nil && cur.Generation > tried.Generation && cur.usable(s.now()) {
		return cur, nil
	}
	if stands(err) {
		return Credential{}, err
	}
	s.mu.Lock()
	s.dead = tried.RefreshToken
	s.mu.Unlock()
	return Credential{}, errors.Join(ErrLoginRequired, err)
}

// stands reports whether err refuses a token for now only.
func stands(err error) bool {
	var r *ResponseError
	return errors.As(err, &r) && r.Stands
}

// refused remembers a refusal for now.
func (s *TokenSource) refused(cur Credential, err error) {
	if stands(err) {
		s.mu.Lock()
		s.notNow = deferral{cur.RefreshToken, err, s.now().Add(refusedFor)}
		s.mu.Unlock()
	}
}

func (f *flight) wait(ctx context.Context) (Credential, error) {
	select {
	case <-f.done:
		return f.cred, f.err
	case <-ctx.Done():
		return Credential{}, ctx.Err()
	}
}

func basic(id, secret string) string {
	return base64.StdEncoding.EncodeToString([]byte(id + ":" + secret))
}
