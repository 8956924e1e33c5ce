package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
)

// Times of a rotation. A new key is published a cache lifetime before it signs,
// and verifies for as long as anything it signed may live.
const (
	CacheLifetime = 15 * time.Minute // of the JWKS, as told to clients
	VerifyAfter   = 15 * time.Minute // beyond the successor's activation
)

// algs is what a deployment signs with, by purpose; "" is a symmetric key. A key
// on demand is made when the first client that needs it is registered.
var algs = []struct {
	Purpose Purpose
	Alg     string
	Demand  bool
}{
	{Token, "ES256", false},
	{IDToken, "ES256", false},
	{IDToken, "RS256", false},
	{IDToken, "PS256", true},
	{IDToken, "EdDSA", true},
	{Feed, "ES256", false},
	{Log, "EdDSA", false},
	{Lineage, "", false},
	{Refresh, "", false},
	{Tag, "", false},
	{Nonce, "", false},
	{Pairwise, "", false},
}

// Ring holds the unsealed keys in memory. It is safe for concurrent use.
type Ring struct {
	store  Store
	sealer Sealer
	now    func() time.Time
	state  atomic.Pointer[state]
}

type opened struct {
	Key
	signer    crypto.Signer // nil for symmetric keys
	symmetric []byte
}

type state struct {
	keys      []opened
	mu        sync.Mutex
	signers   map[string]*jose.Signer // by kid and typ
	audiences map[string][]byte
}

// Open reads and unseals the keys. now may be nil.
func Open(ctx context.Context, store Store, sealer Sealer, now func() time.Time) (*Ring, error) {
	if now == nil {
		now = time.Now
	}
	r := &Ring{store: store, sealer: sealer, now: now}
	return r, r.Reload(ctx)
}

// Reload reads the keys again: after a rotation here, and now and then for those
// of other replicas.
func (r *Ring) Reload(ctx context.Context) error {
	keys, err := r.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read the keys: %w", err)
	}
	st := &state{signers: map[string]*jose.Signer{}, audiences: map[string][]byte{}}
	for _, k := range keys {
		plain, err := r.sealer.Open(k.Sealed, associated(k))
		if err != nil {
			return fmt.Errorf("unseal key %s: the key-encryption key is another one, or the row was changed: %w", k.ID, err)
		}
		o := opened{Key: k}
		if k.Alg == "" {
			o.symmetric = plain
		} else {
			p, err := x509.ParsePKCS8PrivateKey(plain)
			if err != nil {
				return fmt.Errorf("key %s: %w", k.ID, err)
			}
			s, ok := p.(crypto.Signer)
			if !ok {
				return fmt.Errorf("key %s cannot sign", k.ID)
			}
			o.signer = s
		}
		st.keys = append(st.keys, o)
	}
	// Newest first: the first that is active signs.
	slices.SortStableFunc(st.keys, func(a, b opened) int { return b.Version - a.Version })
	r.state.Store(st)
	return nil
}

func associated(k Key) []byte {
	return fmt.Appendf(nil, "signing_key/%s/sealed/%s/%s/1", k.ID, k.Purpose, k.Alg)
}

// Generate makes a key of a purpose that signs from activate on.
func Generate(p Purpose, alg string, version int, sealer Sealer, now, activate time.Time) (Key, error) {
	k := Key{Purpose: p, Alg: alg, Version: version, CreatedAt: now, ActivateAt: activate}
	var plain []byte
	if alg == "" {
		plain = make([]byte, 32)
		rand.Read(plain)
		var name [9]byte
		rand.Read(name[:])
		k.ID = base64.RawURLEncoding.EncodeToString(name[:])
	} else {
		s, err := generate(alg)
		if err != nil {
			return Key{}, err
		}
		if plain, err = x509.MarshalPKCS8PrivateKey(s); err != nil {
			return Key{}, err
		}
		if k.ID, err = jose.Thumbprint(s.Public()); err != nil {
			return Key{}, err
		}
		k.ID = k.ID[:16]
		if k.Public, err = x509.MarshalPKIXPublicKey(s.Public()); err != nil {
			return Key{}, err
		}
	}
	var err error
	k.Sealed, err = sealer.Seal(plain, associated(k))
	return k, err
}

func generate(alg string) (crypto.Signer, error) {
	switch alg {
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256", "PS256":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "EdDSA":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	}
	return nil, fmt.Errorf("no key can be made for the algorithm %q", alg)
}

// Missing makes the keys that every deployment has and this one lacks; they
// sign at once.
func (r *Ring) Missing() ([]Key, error) {
	st := r.state.Load()
	var out []Key
	for _, a := range algs {
		if a.Demand || st.has(a.Purpose, a.Alg) {
			continue
		}
		now := r.now().UTC().Truncate(time.Microsecond)
		k, err := Generate(a.Purpose, a.Alg, 1+st.version(a.Purpose), r.sealer, now, now)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// Demanded makes the key of a purpose and algorithm that a client is about to need,
// if the deployment has none yet; ok is false if it has. The key is to be stored,
// and so published, before that client is registered.
func (r *Ring) Demanded(p Purpose, alg string) (k Key, ok bool, err error) {
	st := r.state.Load()
	if !known(p, alg) {
		return Key{}, false, fmt.Errorf("a deployment has no key of purpose %s and algorithm %q", p, alg)
	}
	if st.has(p, alg) {
		return Key{}, false, nil
	}
	now := r.now().UTC().Truncate(time.Microsecond)
	k, err = Generate(p, alg, 1+st.version(p), r.sealer, now, now)
	return k, err == nil, err
}

// has reports whether a key of a purpose and algorithm is in use.
func (s *state) has(p Purpose, alg string) bool {
	return slices.ContainsFunc(s.keys, func(k opened) bool {
		return k.Purpose == p && k.Alg == alg && k.RetireAt.IsZero() && k.WithdrawnAt.IsZero()
	})
}

func (s *state) version(p Purpose) int {
	v := 0
	for _, k := range s.keys {
		if k.Purpose == p {
			v = max(v, k.Version)
		}
	}
	return v
}

// Rotation makes the successor of a purpose's key: published now, signing after
// a cache lifetime, the old one verifying until nothing it signed lives. Log and
// symmetric keys are rotated by their own procedures.
func (r *Ring) Rotation(p Purpose, alg string) (add Add, retire []Retire, err error) {
	if p == Log || alg == "" || !known(p, alg) {
		return Add{}, nil, fmt.Errorf("a key of purpose %s is not rotated this way", p)
	}
	st := r.state.Load()
	now := r.now().UTC().Truncate(time.Microsecond)
	k, err := Generate(p, alg, 1+st.version(p), r.sealer, now, now.Add(CacheLifetime))
	if err != nil {
		return Add{}, nil, err
	}
	for _, o := range st.keys {
		if o.Purpose == p && o.Alg == alg && o.RetireAt.IsZero() {
			retire = append(retire, Retire{o.ID, k.ActivateAt.Add(VerifyAfter)})
		}
	}
	return Add{k}, retire, nil
}

// emergency are the purposes that are replaced at once when keys may have been
// stolen. The key of the log is its own procedure: whoever pinned it must be told.
// With a stolen key of pairwise subjects the accounts of clients that work together
// can be compared; with another key nobody would have an account any more.
// Without withRefresh the keys of refresh tokens get successors, and what the old
// ones made goes on working.
func emergency(p Purpose, withRefresh bool) (replace, withdraw bool) {
	switch p {
	case Log, Pairwise:
		return false, false
	case Refresh, Tag:
		return true, withRefresh
	}
	return true, true
}

// Replacement makes a new key for every purpose but those two, all of which work at
// once, and withdraws those that are in use: what they signed verifies nowhere from
// then on. withRefresh withdraws the keys of refresh tokens, too, so that nobody's
// works any more.
func (r *Ring) Replacement(withRefresh bool) (add []Add, withdraw []Withdraw, err error) {
	st := r.state.Load()
	now := r.now().UTC().Truncate(time.Microsecond)
	for _, a := range algs {
		replace, out := emergency(a.Purpose, withRefresh)
		if !replace || a.Demand && !st.has(a.Purpose, a.Alg) {
			continue
		}
		version := st.version(a.Purpose)
		for _, k := range add {
			if k.Purpose == a.Purpose {
				version = max(version, k.Version)
			}
		}
		k, err := Generate(a.Purpose, a.Alg, version+1, r.sealer, now, now)
		if err != nil {
			return nil, nil, err
		}
		add = append(add, Add{k})
		for _, o := range st.keys {
			if out && o.Purpose == a.Purpose && o.Alg == a.Alg && o.WithdrawnAt.IsZero() {
				withdraw = append(withdraw, Withdraw{o.ID, now})
			}
		}
	}
	return add, withdraw, nil
}

// Withdrawn lists the signing keys that were withdrawn at or after a moment.
func (r *Ring) Withdrawn(since time.Time) []string {
	var out []string
	for _, k := range r.state.Load().keys {
		if k.signer != nil && k.Purpose != Log && !k.WithdrawnAt.IsZero() && !k.WithdrawnAt.Before(since) {
			out = append(out, k.ID)
		}
	}
	slices.Sort(out)
	return out
}

// known reports whether a deployment has keys of a purpose and algorithm.
func known(p Purpose, alg string) bool {
	for _, a := range algs {
		if a.Purpose == p && a.Alg == alg {
			return true
		}
	}
	return false
}

func (k opened) verifies(now time.Time) bool {
	return k.WithdrawnAt.IsZero() && (k.RetireAt.IsZero() || now.Before(k.RetireAt))
}

// signing is the key that signs for a purpose now.
func (r *Ring) signing(p Purpose, alg string) (opened, error) {
	now := r.now()
	for _, k := range r.state.Load().keys {
		if k.Purpose == p && k.Alg == alg && k.verifies(now) && !now.Before(k.ActivateAt) {
			return k, nil
		}
	}
	return opened{}, fmt.Errorf("no active key of purpose %s and algorithm %s", p, alg)
}

// Signer gives the JWT signer of a purpose for one typ.
func (r *Ring) Signer(p Purpose, alg, typ string) (*jose.Signer, error) {
	k, err := r.signing(p, alg)
	if err != nil {
		return nil, err
	}
	st := r.state.Load()
	st.mu.Lock()
	defer st.mu.Unlock()
	name := k.ID + " " + typ
	if s := st.signers[name]; s != nil {
		return s, nil
	}
	s, err := jose.NewSigner(k.signer, alg, k.ID, typ)
	if err != nil {
		return nil, err
	}
	st.signers[name] = s
	return s, nil
}

// LogKey is the log's own key (mechanisms E8).
func (r *Ring) LogKey() (ed25519.PrivateKey, error) {
	k, err := r.signing(Log, "EdDSA")
	if err != nil {
		return nil, err
	}
	return k.signer.(ed25519.PrivateKey), nil
}

// Key finds a verification key for our own tokens by kid and algorithm
// (jose.KeySet).
func (r *Ring) Key(kid, alg string) (crypto.PublicKey, bool) {
	now := r.now()
	for _, k := range r.state.Load().keys {
		if k.ID == kid && k.Alg == alg && k.Purpose != Log && k.signer != nil && k.verifies(now) {
			return k.signer.Public(), true
		}
	}
	return nil, false
}

// Public lists the keys of the JWKS: everything that signs tokens or frames, or
// will.
func (r *Ring) Public() []jose.JWK {
	now := r.now()
	var out []jose.JWK
	for _, k := range r.state.Load().keys {
		if k.signer != nil && k.Purpose != Log && k.verifies(now) {
			out = append(out, jose.JWK{KeyID: k.ID, Algorithm: k.Alg, Key: k.signer.Public()})
		}
	}
	return out
}

// List gives the keys without their secrets, for the operator.
func (r *Ring) List() []Key {
	var out []Key
	for _, k := range r.state.Load().keys {
		k.Sealed = nil
		out = append(out, k.Key)
	}
	return out
}

func (r *Ring) symmetric(p Purpose) [][]byte {
	var out [][]byte
	for _, k := range r.state.Load().keys {
		if k.Purpose == p && k.symmetric != nil && k.WithdrawnAt.IsZero() {
			out = append(out, k.symmetric)
		}
	}
	return out
}

// RT gives K_rt of a version (grant.RefreshKeys).
func (r *Ring) RT(version int) ([]byte, bool) {
	for _, k := range r.state.Load().keys {
		if k.Purpose == Refresh && k.Version == version && k.WithdrawnAt.IsZero() {
			return k.symmetric, true
		}
	}
	return nil, false
}

// CurrentRT is the version of K_rt that new families are made with.
func (r *Ring) CurrentRT() int { return r.state.Load().version(Refresh) }

// Tags gives K_tag, newest first.
func (r *Ring) Tags() [][]byte { return r.symmetric(Tag) }

// Nonces gives the keys of DPoP nonces, newest first.
func (r *Ring) Nonces() [][]byte { return r.symmetric(Nonce) }

// PairwiseKey is what pairwise subjects are made with.
func (r *Ring) PairwiseKey() ([]byte, error) {
	keys := r.symmetric(Pairwise)
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key for pairwise subjects")
	}
	return keys[len(keys)-1], nil // the first: it has no successor
}

// AudienceKey is K_aud of mechanisms C3 for a registered audience.
func (r *Ring) AudienceKey(audience string) ([]byte, error) {
	st := r.state.Load()
	st.mu.Lock()
	defer st.mu.Unlock()
	if k := st.audiences[audience]; k != nil {
		return k, nil
	}
	keys := r.symmetric(Lineage)
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no lineage key")
	}
	k, err := lineage.AudienceKey(keys[0], audience)
	if err != nil {
		return nil, err
	}
	st.audiences[audience] = k
	return k, nil
}
