package pep_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
)

// BenchmarkAuthorize is Authorize by the policies held, without the network: one policy,
// and fifty of the same action, that allow and that ask for more.
func BenchmarkAuthorize(b *testing.B) {
	var fifty strings.Builder
	for n := range 50 {
		fmt.Fprintf(&fifty, `@id("p%d") @reason("r") permit (principal is Person in Group::"g%d", action == Action::"deploy", resource)
when { context.assurance.age.phr <= duration("%dm") };`, n, n, 5+n%4)
	}
	for name, rules := range map[string]string{"few": rules, "fifty": fifty.String()} {
		i := newIssuer(b)
		i.rules = rules
		i.publish(1, 2, dana)
		v := i.ready(i.point())
		for _, h := range []holder{{sub: dana, acr: "phr"}, {sub: dana, acr: "phr", ago: time.Hour}} {
			r := httptest.NewRequest(http.MethodPost, aud+"/", nil)
			r.Header.Set("Authorization", "Bearer "+i.token(h))
			t, err := v.Verify(r)
			ok(b, err)
			what := "allow"
			if h.ago > 0 {
				what = "step_up"
			}
			if err := v.Authorize(b.Context(), t, "deploy", countersign.Resource{Type: "Cluster", ID: "prod"}); (err == nil) != (h.ago == 0) {
				b.Fatal(err)
			}
			b.Run(name+"/"+what, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = v.Authorize(b.Context(), t, "deploy", countersign.Resource{Type: "Cluster", ID: "prod"})
				}
			})
		}
		if i.asked.Load() != 0 {
			b.Errorf("asked %d times", i.asked.Load())
		}
	}
}

// BenchmarkAuthorizeSaid is the same by what is said of the thing.
func BenchmarkAuthorizeSaid(b *testing.B) {
	i := newPayments(b)
	v := i.ready(i.point())
	for what, on := range map[string]countersign.Resource{"allow": paid(nil), "step_up": paid(map[string]any{"amount": 5000})} {
		t := i.verified(v, holder{sub: dana, acr: "phr", ago: time.Hour})
		if err := v.Authorize(b.Context(), t, "pay", on); (err == nil) != (what == "allow") {
			b.Fatal(err)
		}
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = v.Authorize(b.Context(), t, "pay", on)
			}
		})
	}
}

// verified is somebody's token, verified.
func (i *issuer) verified(v *countersign.Verifier, h holder) *countersign.Token {
	i.Helper()
	r := httptest.NewRequest(http.MethodPost, aud+"/", nil)
	r.Header.Set("Authorization", "Bearer "+i.token(h))
	t, err := v.Verify(r)
	ok(i, err)
	return t
}

// TestAimsOfAuthorize holds Authorize to what it may cost, by what does not depend on the
// machine: how often it takes memory, and that it asks nobody.
func TestAimsOfAuthorize(t *testing.T) {
	plain, typed := newIssuer(t), newPayments(t)
	for _, c := range []struct {
		name   string
		i      *issuer
		action string
		on     countersign.Resource
		ago    time.Duration
		most   float64
	}{
		{"allowed", plain, "deploy", countersign.Resource{Type: "Cluster", ID: "prod"}, 0, 8},
		{"a challenge", plain, "deploy", countersign.Resource{Type: "Cluster", ID: "prod"}, time.Hour, 40},
		{"allowed by what is said", typed, "pay", paid(nil), time.Hour, 12},
		{"a challenge by what is said", typed, "pay", paid(map[string]any{"amount": 5000}), time.Hour, 42},
	} {
		v := c.i.ready(c.i.point())
		token := c.i.verified(v, holder{sub: dana, acr: "phr", ago: c.ago})
		refused := strings.HasPrefix(c.name, "a challenge")
		n := testing.AllocsPerRun(100, func() {
			if err := v.Authorize(t.Context(), token, c.action, c.on); (err != nil) != refused {
				t.Fatalf("%s: %v", c.name, err)
			}
		})
		if t.Logf("%s: %v allocations", c.name, n); n > c.most || c.i.asked.Load() > 0 {
			t.Errorf("%s: %v allocations, aim %v; asked %d times", c.name, n, c.most, c.i.asked.Load())
		}
	}
}
