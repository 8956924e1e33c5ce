package server

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/jwks"
	"github.com/countersign-dev/countersign/internal/web"
)

// Whom nobody registered does not have the server call what the operator lets it
// reach within.
func TestStrangersNameNoAddressWithin(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	within := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = io.WriteString(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`)
	}))
	t.Cleanup(within.Close)
	s := &State{Config: &config.Config{Egress: config.Egress{Allow: []string{within.Listener.Addr().String()}}}, now: time.Now}
	known, agreed, strange, err := s.keyFetchers()
	if err != nil {
		t.Fatal(err)
	}
	for whose, source := range map[string]*jwks.Source{"a stranger's": strange, "one's that a person agreed to": agreed} {
		if _, err := source.Set(t.Context(), within.URL); !errors.Is(err, web.ErrEgress) || calls.Load() != 0 {
			t.Errorf("%s: %v, %d calls", whose, err, calls.Load())
		}
	}
	if _, err := known.Set(t.Context(), within.URL); err != nil || calls.Load() != 1 {
		t.Errorf("the control, a registered client's: %v, %d calls", err, calls.Load())
	}
	allowed, anybody, err := s.documentFetchers()
	if err != nil {
		t.Fatal(err)
	}
	get := func(c *http.Client) error {
		resp, err := c.Get(within.URL)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := get(anybody); !errors.Is(err, web.ErrEgress) || calls.Load() != 1 {
		t.Errorf("a stranger's document: %v, %d calls", err, calls.Load())
	}
	if err := get(allowed); err != nil || calls.Load() != 2 {
		t.Errorf("the control, an allowed domain's document: %v, %d calls", err, calls.Load())
	}
}
