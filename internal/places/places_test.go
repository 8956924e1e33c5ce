package places_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/countersign-dev/countersign/internal/places"
	"github.com/countersign-dev/countersign/internal/risk"
)

// write makes a file with a few networks and gives its path.
func write(t testing.TB, dir string, of map[string]mmdbtype.Map) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for prefix, rec := range of {
		_, n, err := net.ParseCIDR(prefix)
		if err == nil {
			err = w.Insert(n, rec)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	next := filepath.Join(dir, "next.mmdb")
	f, err := os.Create(next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "places.mmdb")
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func city(country string, lat, lon float64) mmdbtype.Map {
	return mmdbtype.Map{
		"country":  mmdbtype.Map{"iso_code": mmdbtype.String(country), "names": mmdbtype.Map{"en": mmdbtype.String("x")}},
		"location": mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lon)},
	}
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, map[string]mmdbtype.Map{
		"203.0.113.0/24":  city("DE", 52.5, 13.4),
		"198.51.100.0/25": city("VN", 900, 0), // no point on earth
		"2001:db8::/32":   {"country": mmdbtype.Map{"iso_code": mmdbtype.String("FR")}},
		"192.0.2.0/24":    {"country": mmdbtype.Map{"iso_code": mmdbtype.String("Narnia")}},
	})
	m, err := places.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for prefix, want := range map[string]risk.Place{
		"203.0.113.0/24":  {Country: "DE", Latitude: 52.5, Longitude: 13.4},
		"203.0.113.77/24": {Country: "DE", Latitude: 52.5, Longitude: 13.4},
		"198.51.100.0/24": {Country: "VN"},
		"2001:db8:1::/48": {Country: "FR"},
		"192.0.2.0/24":    {},
		"100.64.0.0/24":   {},
	} {
		if got := m.Of(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %+v, want %+v", prefix, got, want)
		}
	}
	if changed, err := m.Refresh(); changed || err != nil {
		t.Errorf("%t %v", changed, err)
	}
	write(t, dir, map[string]mmdbtype.Map{"203.0.113.0/24": city("JP", 35, 139)})
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if changed, err := m.Refresh(); !changed || err != nil {
		t.Errorf("%t %v", changed, err)
	}
	if got := m.Of(netip.MustParsePrefix("203.0.113.0/24")).Country; got != "JP" {
		t.Errorf("still %s", got)
	}
	// A file that is none leaves the earlier one in use.
	if err := os.WriteFile(filepath.Join(dir, "next"), []byte("no map"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "next"), path); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Refresh(); err == nil {
		t.Error("a file that is no map")
	}
	if got := m.Of(netip.MustParsePrefix("203.0.113.0/24")).Country; got != "JP" {
		t.Errorf("%q after a file that is none", got)
	}
	if _, err := places.Open(filepath.Join(dir, "none.mmdb")); err == nil {
		t.Error("a file that is not there")
	}
}

func BenchmarkOf(b *testing.B) {
	dir := b.TempDir()
	m, err := places.Open(write(b, dir, map[string]mmdbtype.Map{"203.0.113.0/24": city("DE", 52.5, 13.4)}))
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	n := netip.MustParsePrefix("203.0.113.0/24")
	b.ReportAllocs()
	for b.Loop() {
		m.Of(n)
	}
}
