package trust

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
)

// TestReplaceKeys replaces every key at once while tokens are asked for and verified.
// Tokens of the old keys are refused at the enforcement point as soon as it hears of
// it, though it holds the old keys; no token of the new ones is, and nobody who asks
// for one is turned away.
func TestReplaceKeys(t *testing.T) {
	beside(t)
	databases(t, 100, 100, replaceCampaign)
}

func replaceCampaign(t *testing.T, dsn string, n int) {
	w := newWorld(t, t.TempDir(), dsn, nil)
	w.start()
	v, err := countersign.New(t.Context(), countersign.Config{
		Issuer: w.issuer, Audience: theAPI, AllowBearer: true, Client: countersign.ClientAuth{ID: w.api.ID, Key: w.apiKey, KeyID: "k"},
	})
	check(t, err)
	defer v.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check(t, v.Ready(ctx))
	pass := func(token string) bool {
		r := httptest.NewRequest(http.MethodGet, theAPI+"/notes", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := v.Verify(r)
		return err == nil
	}
	var asked, verified, unexplained atomic.Int64
	var keys sync.Map // kid → true once it was replaced
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond): // a load, not a flood
				}
				got, err := w.machine.Credentials("")
				if err != nil {
					unexplained.Add(1)
					t.Errorf("a token is refused: %v", err)
					return
				}
				asked.Add(1)
				kid := kidOf(got.Access)
				ok := pass(got.Access)
				for until := time.Now().Add(soon(time.Second)); !ok && time.Now().Before(until); ok = pass(got.Access) { // a key that is new to it is read once
					if _, gone := keys.Load(kid); gone {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
				if _, gone := keys.Load(kid); !ok && !gone {
					unexplained.Add(1)
					t.Errorf("a token of the key %s is refused, which nobody withdrew", kid)
				}
				verified.Add(1)
			}
		})
	}
	var slowest time.Duration
	for range n {
		old, err := w.machine.Credentials("")
		check(t, err)
		if !pass(old.Access) {
			waitUntil(t, soon(15*time.Second), func() bool { return pass(old.Access) })
		}
		keys.Store(kidOf(old.Access), true)
		out, err := w.command("keys", "replace", "--now").CombinedOutput()
		if err != nil {
			t.Fatalf("replace the keys: %v %s", err, out)
		}
		done := time.Now()
		waitUntil(t, soon(15*time.Second), func() bool { return !pass(old.Access) })
		slowest = max(slowest, time.Since(done))
		if active, err := w.api.Introspect(old.Access); err != nil || active {
			t.Errorf("a token of a withdrawn key is active: %v", err)
		}
		time.Sleep(time.Second)
		if t.Failed() {
			break
		}
	}
	close(stop)
	wg.Wait()
	report(t, "keys replaced at once under load, "+engine(dsn), "%d times, %d tokens asked for, %d verified, %d unexplained failures; old tokens refused at an enforcement point within %s of the command's end",
		n, asked.Load(), verified.Load(), unexplained.Load(), slowest.Round(time.Millisecond))
	if slowest > soon(5*time.Second) || asked.Load() == 0 {
		t.Errorf("old tokens passed for %s; %d tokens asked for", slowest, asked.Load())
	}
}

func kidOf(token string) string {
	head, _, _ := strings.Cut(token, ".")
	var h struct{ Kid string }
	if b, err := base64.RawURLEncoding.DecodeString(head); err == nil {
		_ = json.Unmarshal(b, &h) // "" is nobody's key
	}
	return h.Kid
}
