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
