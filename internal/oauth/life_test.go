package oauth

import (
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
)

// TestLifeByRisk: where something is unusual and was outweighed by a fresh proof,
// what is given lives as long as the policies say: tokens, the grant and its family.
func TestLifeByRisk(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		usual := r.tokens(r.post("/oauth/token", r.redemption(r.web, r.code(r.web)), r.auth(r.web)))
		if usual.ExpiresIn != 300 {
			t.Fatalf("a token lives %d s without any risk", usual.ExpiresIn)
		}
		r.nodes[0].server.Do.Risk = &profile.Profiles{Store: r.nodes[0].store, Settings: risk.Default()}
		now := r.clock.now()
		r.do(audit.SignalReported, profile.Told{Report: profile.Report{
			ID: "sgl_1", Kind: "phishing", About: risk.AboutPerson, Thing: r.person.ID, Person: r.person.ID, Points: 35, Source: "svc_1", Name: "Mail", At: now, Until: now.Add(time.Hour),
		}})
		r.ses = r.signIn(r.person, r.passkey, false)
		tok := r.tokens(r.post("/oauth/token", r.redemption(r.web, r.code(r.web)), r.auth(r.web)))
		if tok.ExpiresIn != 120 {
			t.Errorf("a token lives %d s at medium risk", tok.ExpiresIn)
		}
		grants, err := r.nodes[0].store.GrantsOf(t.Context(), r.person.ID)
		ok(r, err)
		short := 0
		for _, g := range grants {
			if g.ExpiresAt.Sub(g.CreatedAt) == 24*time.Hour {
				short++
			}
		}
		if short != 1 || len(grants) != 2 {
			t.Errorf("%d of %d grants live a day", short, len(grants))
		}
		again := r.tokens(r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken), r.auth(r.web)))
		if again.ExpiresIn != 120 {
			t.Errorf("refreshed, it lives %d s", again.ExpiresIn)
		}
		r.clock.move(2 * time.Hour) // the signal is over
		again = r.tokens(r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", again.RefreshToken), r.auth(r.web)))
		if again.ExpiresIn != 300 {
			t.Errorf("when nothing is unusual any more, it lives %d s", again.ExpiresIn)
		}
		r.clock.move(22 * time.Hour)
		r.expect("a grant of a day, after a day", 400, "invalid_grant",
			r.post("/oauth/token", form("grant_type", "refresh_token", "refresh_token", again.RefreshToken), r.auth(r.web)))
	})
}
