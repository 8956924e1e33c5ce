package config

import (
	"cmp"
	"net/netip"

	"github.com/countersign-dev/countersign/internal/risk"
)

// Risk says how unusual what somebody does is scored (docs/risk.md).
type Risk struct {
	// Off scores nothing; policies are then told that no risk is known.
	Off bool `yaml:"off,omitempty"`
	// TrustedNetworks are the operator's own, as prefixes.
	TrustedNetworks []string `yaml:"trusted_networks,omitempty"`
	// PlacesFile is a file of countries or cities in MaxMind's format (.mmdb).
	// Without one, networks stand for places. It is read again when it changes.
	PlacesFile string `yaml:"places_file,omitempty"`
	// Bands say from which score on a band begins; 0: as measured.
	Bands RiskBands `yaml:"bands,omitempty"`
	// ReportedAtMost is what all signals from outside together add to a score at most;
	// 0: 60, which by itself reaches the band high and refuses nobody.
	ReportedAtMost int `yaml:"reported_at_most,omitempty"`
}

// RiskBands are where the bands begin.
type RiskBands struct {
	Medium  int `yaml:"medium,omitempty"`
	High    int `yaml:"high,omitempty"`
	Extreme int `yaml:"extreme,omitempty"`
}

// Settings are the measured ones with the bands of the configuration.
func (r Risk) Settings() risk.Settings {
	s := risk.Default()
	s.Medium, s.High, s.Extreme = cmp.Or(r.Bands.Medium, s.Medium), cmp.Or(r.Bands.High, s.High), cmp.Or(r.Bands.Extreme, s.Extreme)
	s.Points[risk.Reported] = cmp.Or(r.ReportedAtMost, s.Points[risk.Reported])
	return s
}

// Trusted are the trusted networks; those that are none are left out.
func (r Risk) Trusted() (out []netip.Prefix) {
	for _, t := range r.TrustedNetworks {
		if p, err := netip.ParsePrefix(t); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func (r Risk) check(bad func(key, format string, args ...any)) {
	for _, t := range r.TrustedNetworks {
		if p, err := netip.ParsePrefix(t); err != nil {
			bad("risk.trusted_networks", "%q is not a prefix such as 198.51.100.0/24", t)
		} else if p.Addr().Is4() && p.Bits() > 24 || p.Addr().Is6() && p.Bits() > 48 {
			bad("risk.trusted_networks", "%s is smaller than what counts as one network: /24, or /48 for IPv6", t)
		}
	}
	if r.ReportedAtMost < 0 || r.ReportedAtMost > 100 {
		bad("risk.reported_at_most", "%d is not between 1 and 100", r.ReportedAtMost)
	}
	if s := r.Settings(); s.Medium < 1 || s.High <= s.Medium || s.Extreme <= s.High {
		bad("risk.bands", "each band begins above the one before, and medium above 0; here, with the usual ones for what is not said: medium %d, high %d, extreme %d", s.Medium, s.High, s.Extreme)
	}
}
