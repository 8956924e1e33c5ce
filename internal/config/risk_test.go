package config

import (
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/risk"
)

// TestRisk: what makes no sense of risk is refused with its line and what it came to; what
// does is what is scored with.
func TestRisk(t *testing.T) {
	const rest = "issuer: https://id.example.com\nlisten: {address: \"127.0.0.1:8443\"}\nproxy: {trusted: [\"127.0.0.1/32\"], header: X-Forwarded-For}\ndata_dir: /var/lib/countersign\ndatabase: {sqlite: /var/lib/countersign/db}\n"
	const order = "each band begins above the one before, and medium above 0; here, with the usual ones for what is not said: "
	for _, tc := range []struct{ conf, fault string }{
		{"  bands: {medium: 20, high: 40, extreme: 60}", ""},
		{"  bands: {extreme: 61}", ""},
		{"  bands: {extreme: 60}", "line 7: risk.bands: " + order + "medium 35, high 60, extreme 60"},
		{"  bands: {medium: 60}", "line 7: risk.bands: " + order + "medium 60, high 60, extreme 85"},
		{"  bands: {medium: -1}", "line 7: risk.bands: " + order + "medium -1, high 60, extreme 85"},
		{"  bands: {medium: some}", "bands"},
		{"  bands: {low: 5}", "there is no such key"},
		{"  reported_at_most: 101", "line 7: risk.reported_at_most: 101 is not between 1 and 100"},
		{"  trusted_networks: [\"192.0.2.0/25\"]", "line 7: risk.trusted_networks: 192.0.2.0/25 is smaller than what counts as one network: /24, or /48 for IPv6"},
		{"  trusted_networks: [\"home\"]", "line 7: risk.trusted_networks: \"home\" is not a prefix such as 198.51.100.0/24"},
	} {
		c, err := Parse([]byte(rest+"risk:\n"+tc.conf+"\n"), nil)
		switch {
		case tc.fault == "" && err != nil, tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)):
			t.Errorf("%s: %v", tc.conf, err)
		case err == nil && c.Risk.Bands.Medium == 20:
			s := c.Risk.Settings()
			for score, want := range map[int]string{19: risk.Low, 20: risk.Medium, 40: risk.High, 60: risk.Extreme} {
				if got := s.Band(score); got != want {
					t.Errorf("%d is %s, not %s", score, got, want)
				}
			}
		}
	}
}
