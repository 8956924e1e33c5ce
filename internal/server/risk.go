package server

import (
	"context"
	"net/netip"
	"time"

	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/places"
	"github.com/countersign-dev/countersign/internal/profile"
)

// ZoneTrusted is the zone of the networks that the operator named as its own, as
// policies see it: context.network.zone.
const ZoneTrusted = "trusted"

// scoreRisk has acts scored as the configuration says.
func (s *State) scoreRisk() error {
	r := s.Config.Risk
	trusted := r.Trusted()
	s.Do.Zone = func(net netip.Prefix) string {
		if profile.Within(trusted, net) {
			return ZoneTrusted
		}
		return ""
	}
	if r.Off {
		return nil
	}
	p := &profile.Profiles{Store: s.Store, Settings: r.Settings(), Trusted: trusted}
	if r.PlacesFile != "" {
		m, err := places.Open(r.PlacesFile)
		if err != nil {
			return err
		}
		s.places, p.Place = m, m.Of
	}
	s.Do.Risk = p
	return nil
}

// tendPlaces reads the map of places again when the operator has replaced it. One
// that cannot be read leaves the earlier one in use, and the log says so.
func (s *Server) tendPlaces(ctx context.Context) {
	if s.places == nil {
		return
	}
	every(ctx, time.Minute, func(context.Context) {
		switch changed, err := s.places.Refresh(); {
		case err != nil:
			s.log.Warn("read the map of places again", "err", err)
		case changed:
			s.log.Info("the map of places was read again")
		}
	})
}

// lookAtDevices warns when the most sensitive needs a managed device and no administrator
// has one: it is refused to everybody then. Nothing waits for it.
func (s *Server) lookAtDevices(ctx context.Context) {
	if !s.Config.Devices.Managed {
		return
	}
	n, err := s.Store.ManagedIn(ctx, group.Administrators, s.now())
	switch {
	case err != nil && ctx.Err() == nil:
		s.log.Warn("look for managed devices", "err", err)
	case err == nil && n == 0:
		s.log.Warn("devices.managed is on and no administrator has a managed device, so the most sensitive changes are refused to all of them",
			"fix", "switch it off, start again, and mark one: countersign person device manage")
	}
}
