package oauth

import (
	"context"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
)

// TestWhatNobodyAnswersIsCounted: a device that waits for a yes and a request over the
// backchannel are prompts: with a no, and when their time is over, they count against
// who is asked next; with a yes they do not.
func TestWhatNobodyAnswersIsCounted(t *testing.T) {
	t.Parallel()
	engines(t, 1, func(r *rig) {
		p := &profile.Profiles{Store: r.nodes[0].store, Settings: risk.Default()}
		r.nodes[0].server.Do.Risk = p
		counted := func(when, words string) {
			r.Helper()
			a := got(p.Score(context.Background(), r.person.ID, act.Origin{Asked: true, Network: grant.NetworkOf(r.addr)}, r.clock.now()))(r)
			said := ""
			for _, x := range a.Terms {
				if x.Signal == risk.Prompts {
					said = x.Words
				}
			}
			if (words == "") != (said == "") || !strings.HasPrefix(said, words) {
				r.Errorf("%s: %q, want %q", when, said, words)
			}
		}
		for range 2 {
			r.approves(r.device(r.plain))
		}
		r.askedFor(r.askFor(r.desk(nil)))
		r.agrees("")
		counted("three that were allowed", "")
		r.denies(r.device(r.plain))
		counted("a device, with a no", "")
		r.askedFor(r.askFor(r.desk(nil)))
		got(r.says(r.looks(), grant.Deny, ""))(r)
		counted("and a request over the backchannel", "2 prompts")
		got(r.types(r.device(r.plain).UserCode))(r)
		r.askedFor(r.askFor(r.desk(nil)))
		counted("two more that wait", "2 prompts")
		r.clock.move(max(grant.DeviceLifetime, grant.BackchannelLifetime))
		counted("whose time is over", "4 prompts")
	})
}
