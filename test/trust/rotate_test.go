package trust

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	countersign "github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/policy"
)

// TestRotation rotates the key of access tokens again and again while tokens are
// asked for and verified, by the SDK and by clients that read the published keys
// no more often than they are told: every token is accepted as long as it lives.
// A client that keeps the keys for longer than it was told must fail.
func TestRotation(t *testing.T) {
	databases(t, 24, 24, rotationCampaign)
}

// stride is by how much the clock goes on at a time. Between two rotations lies
// more than the publication and the overlap.
const (
	aheadBy = time.Minute // a clock that is not accepted
	stride  = 20 * time.Second
	between = 40 * time.Minute
)

func rotationCampaign(t *testing.T, dsn string, n int) {
	c := &clock{}
	w := newWorld(t, t.TempDir(), dsn, nil)
	c.set(2 * aheadBy)
	stop := w.here(c, true) // the operator takes a clock that goes ahead of PostgreSQL's
	o := &rotating{world: w, clock: c, stop: make(chan struct{})}
	for range 2 {
		v, err := countersign.New(t.Context(), countersign.Config{Issuer: w.issuer, Audience: theAPI, AllowBearer: true, NoFeed: true, Now: c.now})
		check(t, err)
		defer v.Close()
		o.sdk = append(o.sdk, v)
	}
	for range 8 { // each reads the keys at a time of its own
		o.strict = append(o.strict, &keeper{o: o, sooner: time.Duration(rand.IntN(300)) * time.Second})
	}
	o.careless = &keeper{o: o, longer: 2 * between}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(o.load)
	}
	n = max(n, 2)
	for i := range n {
		_, err := w.serving.RotateKey(context.Background(), keyring.Token, "ES256", act.Refs{Kind: policy.KindOperator})
		check(t, err)
		for range between / stride {
			o.tick.Lock()
			c.set(c.get() + stride)
			o.tick.Unlock()
		}
		if t.Failed() {
			t.Logf("in rotation %d", i+1)
			break
		}
	}
	close(o.stop)
	wg.Wait()
	stop()
	report(t, "signing key rotated under load, "+engine(dsn), "%d rotations, %d keys seen to sign: %d tokens verified %d times, up to their last minute, by the SDK and by 8 clients that read the keys when they were told to: %d refused (%d by one that keeps them for longer)",
		n, len(o.keys), o.tokens.Load(), o.verified.Load(), o.failed.Load(), o.stale.Load())
	if len(o.keys) < n || o.stale.Load() == 0 || o.tokens.Load() == 0 {
		t.Errorf("%d keys signed %d tokens; one who keeps keys for too long refused %d", len(o.keys), o.tokens.Load(), o.stale.Load())
	}
}

// rotating is a server whose key rotates, and who verifies its tokens.
type rotating struct {
	*world
	clock                           *clock
	sdk                             []*countersign.Verifier
	strict                          []*keeper
	careless                        *keeper
	stop                            chan struct{}
	tick                            sync.RWMutex // time stands while somebody holds it for reading
	tokens, verified, failed, stale atomic.Int64
	mu                              sync.Mutex
	kept                            []string // tokens that live
	keys                            map[string]bool
}

// load asks for tokens and has each verified at once, and again later.
func (o *rotating) load() {
	for {
		select {
		case <-o.stop:
			return
		default:
		}
		if !o.use() {
			return
		}
	}
}

// use is one turn of load. The clock stands meanwhile, so that a slow machine is
// not taken for a slow world.
func (o *rotating) use() bool {
	o.tick.RLock()
	defer o.tick.RUnlock()
	tokens, err := o.machine.Credentials("")
	if err != nil {
		o.t.Errorf("a token is refused: %v", err)
		return false
	}
	o.tokens.Add(1)
	old := o.swap(tokens.Access)
	o.verify(tokens.Access)
	if old != "" {
		o.verify(old)
	}
	return true
}

// swap keeps a token and gives one that was kept.
func (o *rotating) swap(token string) (old string) {
	var head struct{ Kid string }
	if b, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')]); err != nil || json.Unmarshal(b, &head) != nil {
		o.t.Errorf("no token: %.40s", token)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keys == nil {
		o.keys = map[string]bool{}
	}
	o.keys[head.Kid] = true
	if len(o.kept) < 64 {
		o.kept = append(o.kept, token)
		return ""
	}
	i := rand.IntN(len(o.kept))
	old, o.kept[i] = o.kept[i], token
	return old
}

// verify has a token verified by everybody, if it lives a minute longer.
func (o *rotating) verify(token string) {
	var claims struct{ Exp int64 }
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || json.Unmarshal(b, &claims) != nil || time.Unix(claims.Exp, 0).Before(o.clock.now().Add(time.Minute)) {
		return
	}
	req, err := http.NewRequest(http.MethodGet, theAPI+"/notes", nil)
	if err != nil {
		o.t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+token)
	refuse := func(who string, err error) {
		if err != nil {
			o.failed.Add(1)
			o.t.Errorf("%s: %v", who, err)
		}
	}
	for _, v := range o.sdk {
		o.verified.Add(1)
		_, err := v.Verify(req)
		refuse("the SDK", err)
	}
	for _, k := range o.strict {
		o.verified.Add(1)
		refuse("a client that caches as told", k.verify(token))
	}
	if o.careless.verify(token) != nil {
		o.stale.Add(1)
	}
}

// keeper keeps the published keys for as long as it was told, and reads them at
// no other time.
type keeper struct {
	o      *rotating
	longer time.Duration // than told
	sooner time.Duration // the first time
	mu     sync.Mutex
	set    *jose.JWKSet
	until  time.Time
}

// Key implements jose.KeySet.
func (k *keeper) Key(kid, alg string) (crypto.PublicKey, bool) { return k.set.Key(kid, alg) }

func (k *keeper) verify(token string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.o.clock.now(); k.set == nil || !now.Before(k.until) {
		resp, err := http.Get(k.o.issuer + "/oauth/jwks")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if k.set, err = jose.ParseJWKSet(b); err != nil {
			return err
		}
		_, age, _ := strings.Cut(resp.Header.Get("Cache-Control"), "max-age=")
		seconds, err := strconv.Atoi(age)
		if err != nil {
			return err
		}
		k.until, k.sooner = now.Add(time.Duration(seconds)*time.Second+k.longer-k.sooner), 0
	}
	_, err := jose.VerifyAccessToken(token, k, jose.AccessTokenWant{Issuer: k.o.issuer, Audiences: []string{theAPI}, Now: k.o.clock.now(), Leeway: time.Minute})
	return err
}
