package act

import (
	"net/netip"
	"slices"

	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
)

// whence puts into what the decision sees where the request comes from: the network,
// unless it is this machine's own, which says nothing of who asks; and the device, with
// whether it is the operator's. What is not shown is not known, and says so by value
// (mechanisms A3).
func (d *Doer) whence(in *Intent, f *Facts) {
	c := &f.Input.Context
	if p, err := netip.ParsePrefix(in.From.Network); err == nil && !p.Addr().IsLoopback() {
		c.Network = policy.Network{Known: true}
		if d.Zone != nil {
			c.Network.Zone = d.Zone(p)
		}
	}
	c.DevicesUsed = d.ManagesDevices
	device := in.device(f)
	held := in.Refs.Session != "" || in.Refs.Grant != "" // then it is theirs, and no other
	c.DeviceKnown = device != "" && (!held || device == f.Device && slices.ContainsFunc(f.Nodes, func(n lineage.Node) bool {
		return n.Kind == lineage.Device && n.ID == device && n.Live()
	}))
	c.DeviceManaged = c.DeviceKnown && slices.ContainsFunc(f.Managed, func(m Managed) bool {
		return m.Device == device && c.Now.Before(m.Until)
	})
}

// device is the one that an act is on: a browser shows it, and in a session it is only
// that of the session; of a grant it is the one that it was
// given out on. A device that the act itself gives out was never there before, and of a
// token that somebody else brings it says nothing where they are.
func (in *Intent) device(f *Facts) string {
	switch {
	case in.From.New:
		return ""
	case in.From.Device != "" || in.From.Shown || in.Refs.Session != "":
		return in.From.Device
	case in.Token.Depth > 0:
		return ""
	}
	return f.Device
}
