package oauth

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/session"
)

// A replica that remembers how things stood refuses nobody by that: what another one
// gave back since counts at the next request, like what it took away.
func TestReplicaRefusesByWhatIs(t *testing.T) {
	t.Parallel()
	engines(t, 2, func(r *rig) {
		c := r.another(r.plain, func(c *client.Client) { c.GrantTypes = append(slices.Clone(c.GrantTypes), client.RefreshToken) })
		r.consents(c)
		device := r.session().Device
		r.sits = device
		tok := r.granted(c)
		there := func() answer {
			f := form("grant_type", "refresh_token", "refresh_token", tok.RefreshToken, "client_id", c.ClientID)
			a := r.send(1, "POST", "/oauth/token", formType, strings.NewReader(f.Encode()))
			if a.status == 200 {
				tok = r.tokens(a)
			}
			return a
		}
		for range 2 {
			r.expect("at first", 200, "", there())
		}
		r.do(audit.PersonDisabled, lineage.Freeze{ID: r.person.ID, Why: "disabled"})
		r.expect("disabled", 400, "invalid_grant", there())
		r.do(audit.PersonEnabled, lineage.Thaw{ID: r.person.ID})
		r.expect("enabled again", 200, "", there())

		r.onlyManaged("token.refresh")
		r.expect("a device that nobody called theirs", 400, "invalid_grant", there())
		r.do(audit.DeviceManaged, session.Manage{Managed: session.Managed{Device: device, Person: r.person.ID, Until: r.clock.now().Add(time.Hour), By: "svc_mdm"}})
		r.expect("a managed one", 200, "", there())
	})
}
