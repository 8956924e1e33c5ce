package oauth

import (
	"slices"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/session"
)

// TestManagedDevice: a token is on the device that it was given out on, by a code that
// went back to the browser there, for as long as that is the operator's. It is on none
// where the browser showed none, where the answer went elsewhere, and for whoever
// exchanges it.
func TestManagedDevice(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		// Whether a code may be had is not asked, so that each way in is looked at by itself.
		r.onlyManaged("token.issue", "token.refresh", "token.exchange")
		c := r.another(r.plain, func(c *client.Client) { c.GrantTypes = append(slices.Clone(c.GrantTypes), client.RefreshToken) })
		r.consents(c)
		device := r.session().Device
		mark := func() {
			r.do(audit.DeviceManaged, session.Manage{Managed: session.Managed{Device: device, Person: r.person.ID, Until: r.clock.now().Add(time.Hour), By: "svc_mdm"}})
		}
		redeem := func() answer { return r.post("/oauth/token", r.redemption(c, r.code(c)), r.auth(c)) }
		const no = "invalid_grant"

		r.sits = device
		r.expect("a device that nobody called theirs", 400, no, redeem())
		mark()
		tok := r.tokens(redeem())
		tok = r.tokens(r.refresh(c, tok.RefreshToken))

		r.sits = ""
		r.expect("a session without its device", 400, no, redeem())
		before := r.ses
		r.signInAgain()
		r.sits = device
		r.expect("another session, which shows the device of the first", 400, no, redeem())
		r.ses = before

		// What goes elsewhere, though it was allowed on the device.
		d := r.device(r.app)
		r.approves(d)
		r.expect("the code of a device", 400, no, r.post("/oauth/token", r.poll(r.app, d)))
		desk := r.desk(nil)
		b := r.askedFor(r.askFor(desk))
		r.agrees("")
		r.expect("a request over the backchannel", 400, no, r.post("/oauth/token", r.fetch(desk, b)))
		app, hop := r.reaching(r.plain), r.actor()
		r.consents(app)
		far := r.grantedBoth(app, nil, "openid notes:read")
		r.expect("an exchange", 400, "invalid_request", r.post("/oauth/token", r.swap(far.AccessToken), hop.auth()))
		r.onlyManaged("token.issue", "token.refresh")
		hop.swap(r, far.AccessToken) // which is how it would do

		// The end of it is heard at the next refresh.
		tok = r.tokens(r.refresh(c, tok.RefreshToken))
		r.do(audit.DeviceUnmanaged, session.Unmanage{Device: device, Person: r.person.ID})
		r.expect("taken back", 400, no, r.refresh(c, tok.RefreshToken))
		mark()
		tok = r.tokens(r.refresh(c, tok.RefreshToken))
		r.clock.move(time.Hour)
		r.expect("run out", 400, no, r.refresh(c, tok.RefreshToken))
	})
}

// onlyManaged puts policies in force by which actions need a managed device.
func (r *rig) onlyManaged(actions ...string) {
	r.Helper()
	src := policy.Default()
	for _, a := range actions {
		src.Files = append(src.Files, policy.File{Name: a + ".cedar", Text: `@id("managed.` + a + `") @reason("Managed devices only.")
forbid (principal, action == Action::"` + a + `", resource) unless { context.device.managed };`})
	}
	for _, n := range r.nodes {
		n.server.Do.Policy = got(policy.Compile(src))(r)
	}
}
