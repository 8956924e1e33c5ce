package jwks

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// publisher is a web server that publishes a set, and counts who reads it.
type publisher struct {
	*httptest.Server
	reads  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func publish(t *testing.T, h http.HandlerFunc) *publisher {
	p := &publisher{}
	p.now(h)
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.reads.Add(1)
		(*p.answer.Load())(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) now(h http.HandlerFunc) { p.answer.Store(&h) }

// source reads p, and the clock is at.
func source(p *publisher, at *time.Time, mu *sync.Mutex) *Source {
	return &Source{HTTP: p.Client(), Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return *at }}
}

func setOf(t testing.TB, kids ...string) string {
	t.Helper()
	set := &jose.JWKSet{}
	for _, kid := range kids {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, jose.JWK{KeyID: kid, Algorithm: jose.ES256, Key: k.Public()})
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func says(body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		fmt.Fprint(w, body)
	}
}

func fails(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) }

func TestASetIsKeptAndReadAgain(t *testing.T) {
	var mu sync.Mutex
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	move := func(d time.Duration) { mu.Lock(); at = at.Add(d); mu.Unlock() }
	p := publish(t, says(setOf(t, "a"), "Cache-Control", "max-age=600"))
	s := source(p, &at, &mu)
	has := func(kid string) bool {
		t.Helper()
		keys, err := s.Keys(t.Context(), p.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := keys.Key(kid, jose.ES256)
		return ok
	}
	reads := func(want int64) {
		t.Helper()
		if got := p.reads.Load(); got != want {
			t.Fatalf("%d reads, want %d", got, want)
		}
	}
	if first, again := has("a"), has("a"); !first || !again {
		t.Fatal("the key is not there")
	}
	reads(1)
	if has("invented") { // at once after a read: it is not read again
		t.Fatal("a key nobody published")
	}
	reads(1)
	move(MissingPause)
	p.now(says(setOf(t, "b"), "Cache-Control", "max-age=600"))
	if !has("a") {
		t.Fatal("a set within its time was read again")
	}
	if !has("b") {
		t.Fatal("a new key is not read")
	}
	reads(2)
	for range 20 { // whoever invents key ids causes no read until the pause is over
		has("invented")
	}
	reads(2)
	if has("a") {
		t.Fatal("a key that was withdrawn still verifies")
	}
	move(11 * time.Minute)
	has("b")
	reads(3)

	// It serves on while it cannot be read, and not for ever.
	move(11 * time.Minute)
	p.now(fails)
	if !has("b") {
		t.Fatal("an outage of the publisher is ours")
	}
	reads(4)
	if has("b"); p.reads.Load() != 4 {
		t.Fatal("read again at once after a failure")
	}
	move(MaxStale)
	if _, err := s.Keys(t.Context(), p.URL); !errors.Is(err, ErrUnavailable) || problem.CodeOf(err) != "jwks_unavailable" {
		t.Fatalf("%v", err)
	}
	p.now(says(setOf(t, "b")))
	move(failedPause)
	if !has("b") {
		t.Fatal("not read again after the outage")
	}
}

func TestWhatIsNoKeySet(t *testing.T) {
	big := `{"keys":[],"x":"` + strings.Repeat("x", MaxBytes) + `"}`
	private := `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}]}`
	elsewhere := publish(t, says(setOf(t, "a")))
	for name, h := range map[string]http.HandlerFunc{
		"no JSON": says("<html>"), "no keys": says(`{"keys":[]}`), "huge": says(big), "only private ones": says(private), "an error": fails,
		"empty":      says(""),
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
	} {
		p := publish(t, h)
		c := web.Egress{Allow: []string{strings.TrimPrefix(p.URL, "https://")}, CAs: p.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}.Client()
		if _, err := (&Source{HTTP: c}).Set(t.Context(), p.URL); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		p.now(says(setOf(t, "a"))) // the control: the same address with a good set
		if _, err := (&Source{HTTP: c}).Set(t.Context(), p.URL); err != nil {
			t.Errorf("%s, mended: %v", name, err)
		}
	}
	if elsewhere.reads.Load() != 0 {
		t.Error("a redirect was followed")
	}
	// Behind the guard, without a permit, an address on this machine is never reached.
	p := publish(t, says(setOf(t, "a")))
	if _, err := (&Source{HTTP: web.Egress{CAs: p.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}.Client()}).Set(t.Context(), p.URL); !errors.Is(err, web.ErrEgress) {
		t.Errorf("a private address: %v", err)
	}
	if p.reads.Load() != 0 {
		t.Error("a private address was reached")
	}
}

// Many requests wait for one read, and none longer than its bound; the read goes
// on for those who come later.
func TestManyWaitForOneRead(t *testing.T) {
	t.Parallel()
	body, release := setOf(t, "a"), make(chan struct{})
	p := publish(t, func(w http.ResponseWriter, r *http.Request) { <-release; says(body)(w, r) })
	s := &Source{HTTP: p.Client()}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			ctx, began := t.Context(), time.Now()
			if i == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 10*time.Millisecond)
				defer cancel()
			}
			if _, err := s.Set(ctx, p.URL); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took > 10*Wait {
				t.Errorf("waited %s", took)
			}
		})
	}
	wg.Wait()
	close(release)
	if _, err := s.Set(t.Context(), p.URL); err != nil {
		t.Error(err)
	}
	if n := p.reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
}

// Slow publishers take the places there are, and what is known goes on serving.
func TestSlowPublishersTakeNoMoreThanTheirPlaces(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	good := publish(t, says(setOf(t, "a"), "Cache-Control", "max-age=60"))
	s := source(good, &at, &mu)
	if _, err := s.Set(t.Context(), good.URL); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	slow := publish(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range maxReads + 5 {
		_, _ = s.Set(ctx, fmt.Sprintf("%s/%d", slow.URL, i))
	}
	mu.Lock()
	at = at.Add(2 * time.Minute)
	mu.Unlock()
	began := time.Now()
	if _, err := s.Set(t.Context(), good.URL); err != nil || time.Since(began) >= Wait {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// A publisher that takes back every key is heard: only a set that cannot be read is
// outlived by the last one.
func TestAnEmptiedSetEndsTheLastOne(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	at := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	p := publish(t, says(setOf(t, "a"), "Cache-Control", "max-age=60"))
	s := source(p, &at, &mu)
	for _, step := range []struct {
		name string
		h    http.HandlerFunc
		ok   bool
	}{
		{"a key", says(setOf(t, "a"), "Cache-Control", "max-age=60"), true},
		{"an outage", fails, true},
		{"no key", says(`{"keys":[]}`), false},
		{"an outage after that", fails, false},
		{"a key again", says(setOf(t, "b")), true},
	} {
		p.now(step.h)
		mu.Lock()
		at = at.Add(2 * time.Minute)
		mu.Unlock()
		if _, err := s.Set(t.Context(), p.URL); (err == nil) != step.ok || err != nil && !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

func TestOnlySoManySetsAreKept(t *testing.T) {
	s := &Source{HTTP: http.DefaultClient}
	for i := range 2 * maxSets {
		s.mu.Lock()
		s.entry(fmt.Sprint(i))
		s.mu.Unlock()
	}
	if len(s.sets) > maxSets {
		t.Errorf("%d sets", len(s.sets))
	}
}
