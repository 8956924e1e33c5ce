package act

import (
	"net/netip"

	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
)

// whence puts into what the decision sees where the request comes from: the network,
// unless it is this machine's own, which says nothing of who asks; and whether the
// device that was shown was there before and, in a session, is the one that it was
// opened on. What is not shown is not known, and says so by value (mechanisms A3). No
// device is managed: nothing here manages any yet.
func (d *Doer) whence(in *Intent, f *Facts) {
	c := &f.Input.Context
	if p, err := netip.ParsePrefix(in.From.Network); err == nil && !p.Addr().IsLoopback() {
		c.Network = policy.Network{Known: true}
		if d.Zone != nil {
			c.Network.Zone = d.Zone(p)
		}
	}
	if c.DeviceKnown = in.From.Device != "" && !in.From.New; !c.DeviceKnown || in.Refs.Session == "" {
		return
	}
	c.DeviceKnown = false
	for i := range f.Nodes {
		if n := &f.Nodes[i]; n.Kind == lineage.Device && n.ID == in.From.Device && n.Live() {
			c.DeviceKnown = true
		}
	}
}
