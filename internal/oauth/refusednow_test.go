package oauth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/review"
	"github.com/countersign-dev/countersign/internal/risk"
)

// TestRefusedForNow: what policy refuses a grant because of its risk is no end of the
// grant, and the client is told so: what would do, or in which review somebody looks at
// it. Nothing was spent; of a grant that did end, nothing of the kind is said.
func TestRefusedForNow(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		settings := risk.Default()
		settings.Points[risk.Reported] = 100
		do := r.nodes[0].server.Do
		do.Risk, do.Reviews = &profile.Profiles{Store: r.nodes[0].store, Settings: settings}, review.Book{Store: r.nodes[0].store}
		tok := r.granted(r.app)
		r.clock.move(16 * time.Minute)
		refused := func(points int, want ...string) answer {
			t.Helper()
			now := r.clock.now()
			r.do(audit.SignalReported, profile.Told{Report: profile.Report{
				ID: fmt.Sprint("sgl_", points), Kind: "phishing", About: risk.AboutPerson, Thing: r.person.ID, Person: r.person.ID,
				Points: points, Source: fmt.Sprint("svc_", points), Name: "Mail", At: now, Until: now.Add(time.Minute),
			}})
			r.clock.move(10 * time.Second)
			a := r.refresh(r.app, tok.RefreshToken)
			r.expect(fmt.Sprint(points, " points"), 400, "invalid_grant", a)
			for _, x := range append(want, `"grant_stands":true`) {
				if !strings.Contains(string(a.body), x) {
					t.Errorf("%d points: %s lacks %s", points, a.body, x)
				}
			}
			r.clock.move(time.Minute) // the signal is over
			return a
		}
		refused(35, `"acr_values":"urn:countersign:acr:multi phr phrh"`, `"max_age":900`, "The person has to show again who they are: This needs a recent sign-in.")
		refused(60, `"acr_values":"phr phrh"`, `"max_age":900`)
		a := refused(90, `"review":"rvw_`, "This is refused now.")
		if strings.Contains(string(a.body), "acr_values") || strings.Contains(string(a.body), "risk") {
			t.Errorf("what nothing would do for says %s", a.body)
		}
		tok = r.tokens(r.refresh(r.app, tok.RefreshToken))
		_, grantID := r.familyOf(tok.RefreshToken)
		r.end(grantID)
		a = r.refresh(r.app, tok.RefreshToken)
		r.expect("ended", 400, "invalid_grant", a)
		if strings.Contains(string(a.body), "stands") {
			t.Errorf("a grant that ended: %s", a.body)
		}
	})
}
