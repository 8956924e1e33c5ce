package keyring_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/store/sqlite"
)

// rig is a ring over a real database, with a clock of its own.
type rig struct {
	t     *testing.T
	dir   string
	store *store.Store
	kek   *hsm.File
	do    *act.Doer
	ring  *keyring.Ring
	now   time.Time
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// newRig opens a ring without any key.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(r.dir, "db"), Migrate: true, Now: r.time})
	r.ok(err)
	t.Cleanup(func() { r.ok(s.Close()) })
	r.store, r.kek = s, r.newKEK("kek")
	r.do = &act.Doer{Store: s, Policy: policy.Builtin(), Ladder: assurance.Default(), Writer: audit.NewWriter(), Keys: s.RecordKeys(r.kek), Now: r.time}
	r.ring = r.open()
	return r
}

// full opens a ring with the keys that every deployment has.
func full(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	missing, err := r.ring.Missing()
	r.ok(err)
	r.add(missing...)
	return r
}

func (r *rig) time() time.Time { return r.now }

func (r *rig) newKEK(name string) *hsm.File {
	r.t.Helper()
	f, err := hsm.OpenOrCreateFile(filepath.Join(r.dir, name))
	r.ok(err)
	return f
}

func (r *rig) open() *keyring.Ring {
	r.t.Helper()
	ring, err := keyring.Open(r.t.Context(), r.store, r.kek, r.time)
	r.ok(err)
	return ring
}

// commit makes changes and reads the keys again.
func (r *rig) commit(changes ...act.Change) {
	r.t.Helper()
	_, err := r.do.Do(context.Background(), act.Intent{
		Action: policy.KeyRotate, Kind: audit.KeyPublished, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) { return act.Effect{Changes: changes}, nil },
	})
	r.ok(err)
	r.ok(r.ring.Reload(r.t.Context()))
}

func (r *rig) add(keys ...keyring.Key) {
	r.t.Helper()
	for _, k := range keys {
		r.commit(keyring.Add{Key: k})
	}
}

// signer is the kid that signs tokens now, "" if none does.
func (r *rig) signer() string {
	r.t.Helper()
	s, err := r.ring.Signer(keyring.Token, "ES256", jose.TypAccessToken)
	if err != nil {
		return ""
	}
	text, err := s.Sign(jose.AccessTokenClaims{Issuer: "https://id.example.com"})
	r.ok(err)
	head, _, _ := strings.Cut(text, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	r.ok(err)
	var h struct {
		Kid string `json:"kid"`
	}
	r.ok(json.Unmarshal(b, &h))
	return h.Kid
}

func (r *rig) verifies(kid string) bool {
	_, ok := r.ring.Key(kid, "ES256")
	return ok
}

// published are the kids of the JWKS.
func (r *rig) published() (out []string) {
	for _, k := range r.ring.Public() {
		out = append(out, k.KeyID)
	}
	return out
}

// TestMissing: every purpose gets its key once, also over restarts and with two
// that ask at the same time.
func TestMissing(t *testing.T) {
	r := newRig(t)
	missing, err := r.ring.Missing()
	r.ok(err)
	again, err := r.open().Missing() // another replica
	r.ok(err)
	var got []string
	for _, k := range missing {
		got = append(got, string(k.Purpose)+" "+k.Alg)
		if k.Version != 1 || !k.ActivateAt.Equal(r.now) || !k.RetireAt.IsZero() || (k.Public == nil) != (k.Alg == "") {
			t.Errorf("%s: %+v", k.Purpose, k)
		}
	}
	want := []string{"token ES256", "id_token ES256", "id_token RS256", "feed ES256", "log EdDSA", "lineage ", "rt ", "rt_tag ", "nonce ", "pairwise "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	r.add(missing...)
	_, err = r.do.Do(t.Context(), act.Intent{
		Action: policy.KeyRotate, Kind: audit.KeyPublished, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{keyring.Add{Key: again[0]}}}, nil
		},
	})
	if problem.CodeOf(err) != "key_taken" {
		t.Errorf("the same key made twice: %v", err)
	}
	for _, ring := range []*keyring.Ring{r.ring, r.open()} {
		if left, err := ring.Missing(); err != nil || len(left) != 0 {
			t.Errorf("%d are missing still, %v", len(left), err)
		}
		if n := len(ring.List()); n != len(want) {
			t.Errorf("%d keys, want %d", n, len(want))
		}
	}
	for _, k := range r.ring.List() {
		if k.Sealed != nil {
			t.Errorf("the list gives the sealed key of %s", k.Purpose)
		}
	}
}

// TestMissingAfterWithdrawal: a withdrawn key leaves a gap that a new version
// fills.
func TestMissingAfterWithdrawal(t *testing.T) {
	r := full(t)
	old := r.signer()
	r.commit(keyring.Withdraw{ID: old, At: r.now})
	if got := r.signer(); got != "" {
		t.Fatalf("%s signs", got)
	}
	missing, err := r.ring.Missing()
	r.ok(err)
	if len(missing) != 1 || missing[0].Purpose != keyring.Token || missing[0].Version != 2 {
		t.Fatalf("missing: %+v", missing)
	}
	r.add(missing...)
	if got := r.signer(); got != missing[0].ID {
		t.Errorf("%s signs, want %s", got, missing[0].ID)
	}
}

// TestReload: what another replica adds is seen after a reload, and not before.
func TestReload(t *testing.T) {
	r := full(t)
	other := r.open()
	add, retire, err := r.ring.Rotation(keyring.Token, "ES256")
	r.ok(err)
	changes := []act.Change{add}
	for _, x := range retire {
		changes = append(changes, x)
	}
	r.commit(changes...)
	if _, ok := other.Key(add.ID, "ES256"); ok {
		t.Error("seen without a reload")
	}
	r.ok(other.Reload(t.Context()))
	if _, ok := other.Key(add.ID, "ES256"); !ok {
		t.Error("not seen after a reload")
	}
}

// TestUnseal: with another key-encryption key, or a row that was moved, nothing
// opens; a ring that is open keeps what it has.
func TestUnseal(t *testing.T) {
	r := full(t)
	_, err := keyring.Open(t.Context(), r.store, r.newKEK("other"), r.time)
	if err == nil || !strings.Contains(err.Error(), "key-encryption key") {
		t.Errorf("another key-encryption key: %v", err)
	}
	keys, err := r.store.Keys(t.Context())
	r.ok(err)
	for name, edit := range map[string]func(k *keyring.Key){
		"another purpose":   func(k *keyring.Key) { k.Purpose = keyring.Feed },
		"another id":        func(k *keyring.Key) { k.ID += "x" },
		"another algorithm": func(k *keyring.Key) { k.Alg = "RS256" },
		"a bit":             func(k *keyring.Key) { k.Sealed = slices.Clone(k.Sealed); k.Sealed[len(k.Sealed)-1] ^= 1 },
		"cut":               func(k *keyring.Key) { k.Sealed = k.Sealed[:3] },
	} {
		changed := slices.Clone(keys)
		i := slices.IndexFunc(changed, func(k keyring.Key) bool { return k.Purpose == keyring.Token })
		edit(&changed[i])
		src := &listed{changed}
		if _, err := keyring.Open(t.Context(), src, r.kek, r.time); err == nil {
			t.Errorf("%s: opened", name)
		}
		src.keys = keys
		ring, err := keyring.Open(t.Context(), src, r.kek, r.time)
		r.ok(err)
		src.keys = changed
		if ring.Reload(t.Context()) == nil {
			t.Errorf("%s: reloaded", name)
		}
		if _, err := ring.Signer(keyring.Token, "ES256", jose.TypAccessToken); err != nil {
			t.Errorf("%s: a reload that failed took the keys away: %v", name, err)
		}
	}
}

// listed gives rows as somebody changed them.
type listed struct{ keys []keyring.Key }

func (l *listed) Keys(context.Context) ([]keyring.Key, error) { return l.keys, nil }

// TestRotation walks through a rotation by the clock: published at once, signing
// a cache lifetime later, the old key verifying until its end.
func TestRotation(t *testing.T) {
	r := full(t)
	old := r.signer()
	add, retire, err := r.ring.Rotation(keyring.Token, "ES256")
	r.ok(err)
	start := r.now
	if len(retire) != 1 || retire[0].ID != old || !retire[0].At.Equal(start.Add(keyring.CacheLifetime+keyring.VerifyAfter)) {
		t.Fatalf("retired: %+v", retire)
	}
	r.commit(add, retire[0])
	const us = time.Microsecond
	for _, c := range []struct {
		at          time.Duration
		signer      string
		old, newKey bool
	}{
		{0, old, true, true},
		{keyring.CacheLifetime - us, old, true, true},
		{keyring.CacheLifetime, add.ID, true, true},
		{keyring.CacheLifetime + keyring.VerifyAfter - us, add.ID, true, true},
		{keyring.CacheLifetime + keyring.VerifyAfter, add.ID, false, true},
	} {
		r.now = start.Add(c.at)
		for range 2 { // as it was read, and read now
			if got := r.signer(); got != c.signer {
				t.Errorf("after %v %s signs, want %s", c.at, got, c.signer)
			}
			if r.verifies(old) != c.old || r.verifies(add.ID) != c.newKey {
				t.Errorf("after %v old verifies %v, new %v", c.at, r.verifies(old), r.verifies(add.ID))
			}
			if slices.Contains(r.published(), old) != c.old || !slices.Contains(r.published(), add.ID) {
				t.Errorf("after %v the JWKS has %v", c.at, r.published())
			}
			r.ok(r.ring.Reload(t.Context()))
		}
	}
	if missing, err := r.ring.Missing(); err != nil || len(missing) != 0 {
		t.Errorf("after a rotation %d keys are missing, %v", len(missing), err)
	}
	for _, p := range []struct {
		purpose keyring.Purpose
		alg     string
	}{{keyring.Log, "EdDSA"}, {keyring.Lineage, ""}, {keyring.Refresh, ""}, {keyring.Token, "HS256"}, {keyring.Token, "EdDSA"}, {keyring.Refresh, "ES256"}, {keyring.Nonce, "ES256"}, {"tokens", "ES256"}} {
		if _, _, err := r.ring.Rotation(p.purpose, p.alg); err == nil {
			t.Errorf("%s %q was rotated", p.purpose, p.alg)
		}
	}
}

// TestRotationTwice: a second rotation before the first is over leaves one signer
// at every moment.
func TestRotationTwice(t *testing.T) {
	r := full(t)
	start := r.now
	for range 2 {
		add, retire, err := r.ring.Rotation(keyring.Token, "ES256")
		r.ok(err)
		if len(retire) != 1 {
			t.Errorf("retires %+v", retire)
		}
		r.commit(add, retire[0])
		r.now = r.now.Add(time.Minute)
	}
	for at := range 60 {
		r.now = start.Add(time.Duration(at) * time.Minute)
		if kid := r.signer(); kid == "" || !r.verifies(kid) {
			t.Errorf("after %d min %q signs", at, kid)
		}
	}
}

// TestWithdrawn: a compromised key verifies nothing and signs nothing from then
// on, retired or not.
func TestWithdrawn(t *testing.T) {
	r := full(t)
	old := r.signer()
	add, retire, err := r.ring.Rotation(keyring.Token, "ES256")
	r.ok(err)
	r.commit(add, retire[0])
	r.commit(keyring.Withdraw{ID: old, At: r.now})
	if r.verifies(old) || slices.Contains(r.published(), old) || r.signer() == old {
		t.Errorf("withdrawn, and verifies %v, published %v, signs %v", r.verifies(old), r.published(), r.signer() == old)
	}
}

// TestPublic: the JWKS holds the public halves of what signs tokens and frames,
// and nothing else; the log's key is known to itself only.
func TestPublic(t *testing.T) {
	r := full(t)
	kinds := map[keyring.Purpose]int{}
	public := r.ring.Public()
	for _, k := range r.ring.List() {
		listed := slices.ContainsFunc(public, func(j jose.JWK) bool { return j.KeyID == k.ID })
		if want := k.Purpose == keyring.Token || k.Purpose == keyring.IDToken || k.Purpose == keyring.Feed; listed != want {
			t.Errorf("%s %s in the JWKS: %v", k.Purpose, k.Alg, listed)
		}
		kinds[k.Purpose]++
		if _, ok := r.ring.Key(k.ID, k.Alg); ok != listed {
			t.Errorf("%s %s verifies our tokens: %v", k.Purpose, k.Alg, ok)
		}
		if _, ok := r.ring.Key(k.ID, "none"); ok {
			t.Errorf("%s verifies under another algorithm", k.Purpose)
		}
	}
	b, err := json.Marshal(jose.JWKSet{Keys: public})
	r.ok(err)
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	r.ok(json.Unmarshal(b, &set))
	if len(set.Keys) != 4 {
		t.Errorf("%d keys: %s", len(set.Keys), b)
	}
	for _, k := range set.Keys {
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if _, ok := k[private]; ok {
				t.Errorf("the JWKS has the member %s", private)
			}
		}
		if k["kty"] == "OKP" || k["kty"] == "oct" {
			t.Errorf("the JWKS has a key of type %s", k["kty"])
		}
	}
	key, err := r.ring.LogKey()
	r.ok(err)
	if len(key) != ed25519.PrivateKeySize {
		t.Errorf("log key of %d bytes", len(key))
	}
}

// symmetric makes a key with content of the test's, sealed as the ring expects.
func (r *rig) symmetric(p keyring.Purpose, version int, content []byte) keyring.Key {
	r.t.Helper()
	k := keyring.Key{ID: fmt.Sprintf("%s-%d", p, version), Purpose: p, Version: version, CreatedAt: r.now, ActivateAt: r.now}
	var err error
	k.Sealed, err = r.kek.Seal(content, fmt.Appendf(nil, "signing_key/%s/sealed/%s//1", k.ID, p))
	r.ok(err)
	return k
}

func seq(n int, start byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = start + byte(i)
	}
	return b
}

// TestAudienceKey is the vector of mechanisms, appendix 1, through the ring.
func TestAudienceKey(t *testing.T) {
	r := newRig(t)
	if _, err := r.ring.AudienceKey("https://api.example.com"); err == nil {
		t.Error("a key without a lineage key")
	}
	r.add(r.symmetric(keyring.Lineage, 1, seq(32, 0x80)))
	for range 2 { // derived, then remembered
		k, err := r.ring.AudienceKey("https://api.example.com")
		r.ok(err)
		if got := hex.EncodeToString(k); got != "7e557c1f3a44d05caf99992505fdc60ce9ee804a2b765b6de3db5d76bbfc80e3" {
			t.Errorf("K_aud = %s", got)
		}
	}
	other, err := r.ring.AudienceKey("https://api.example.com/")
	r.ok(err)
	if hex.EncodeToString(other) == "7e557c1f3a44d05caf99992505fdc60ce9ee804a2b765b6de3db5d76bbfc80e3" {
		t.Error("another audience has the same key")
	}
	missing, err := r.ring.Missing()
	r.ok(err)
	if slices.ContainsFunc(missing, func(k keyring.Key) bool { return k.Purpose == keyring.Lineage }) {
		t.Error("a second lineage key is made")
	}
}

// TestRefreshKeys: a family finds the key of its version, new ones take the
// newest, and a withdrawn one is none.
func TestRefreshKeys(t *testing.T) {
	r := newRig(t)
	if r.ring.CurrentRT() != 0 {
		t.Error("a version without a key")
	}
	r.add(r.symmetric(keyring.Refresh, 1, seq(32, 1)), r.symmetric(keyring.Refresh, 2, seq(32, 2)), r.symmetric(keyring.Tag, 1, seq(32, 3)), r.symmetric(keyring.Tag, 2, seq(32, 4)))
	for version, want := range map[int][]byte{1: seq(32, 1), 2: seq(32, 2), 3: nil, 0: nil} {
		got, ok := r.ring.RT(version)
		if diff := cmp.Diff(want, got); diff != "" || ok != (want != nil) {
			t.Errorf("version %d: %v %s", version, ok, diff)
		}
	}
	if got := r.ring.CurrentRT(); got != 2 {
		t.Errorf("current version %d", got)
	}
	if diff := cmp.Diff([][]byte{seq(32, 4), seq(32, 3)}, r.ring.Tags()); diff != "" {
		t.Errorf("tags, newest first: %s", diff)
	}
	r.commit(keyring.Withdraw{ID: "rt-1", At: r.now})
	if _, ok := r.ring.RT(1); ok {
		t.Error("a withdrawn key is given")
	}
}
