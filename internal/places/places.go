// Package places reads where a network is from a file in MaxMind's format, which
// the operator supplies: the product has no data of its own.
package places

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/countersign-dev/countersign/internal/risk"
)

// Map is an opened file. It is safe for concurrent use.
type Map struct {
	path string

	mu       sync.RWMutex
	reader   *maxminddb.Reader
	modified time.Time
}

// Open opens a file of countries or cities: one whose records have country and, for
// a point, location (GeoLite2-City, GeoIP2-City, dbip-city and the like). The file
// is mapped into memory: replace it by renaming another one over it.
func Open(path string) (*Map, error) {
	m := &Map{path: path}
	if _, err := m.Refresh(); err != nil {
		return nil, err
	}
	return m, nil
}

// Refresh opens the file again if it has changed since. An error leaves the earlier
// one in use.
func (m *Map) Refresh() (changed bool, err error) {
	info, err := os.Stat(m.path)
	if err != nil {
		return false, fmt.Errorf("places: %w", err)
	}
	m.mu.RLock()
	same := m.reader != nil && info.ModTime().Equal(m.modified)
	m.mu.RUnlock()
	if same {
		return false, nil
	}
	r, err := maxminddb.Open(m.path)
	if err != nil {
		return false, fmt.Errorf("places: %s: %w", m.path, err)
	}
	m.mu.Lock()
	old := m.reader
	m.reader, m.modified = r, info.ModTime()
	m.mu.Unlock()
	if old != nil {
		return true, old.Close()
	}
	return true, nil
}

// record is what of the file's is read.
type record struct {
	Country struct {
		ISOCode string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Location struct {
		Latitude  float64 `maxminddb:"latitude"`
		Longitude float64 `maxminddb:"longitude"`
	} `maxminddb:"location"`
}

// Of gives the place of a network, as its first address has it; zero if the file
// does not know, or says something that is no place.
func (m *Map) Of(network netip.Prefix) risk.Place {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var rec record
	if err := m.reader.Lookup(network.Masked().Addr()).Decode(&rec); err != nil || len(rec.Country.ISOCode) != 2 {
		return risk.Place{}
	}
	p := risk.Place{Country: rec.Country.ISOCode}
	if lat, lon := rec.Location.Latitude, rec.Location.Longitude; lat >= -90 && lat <= 90 && lon >= -180 && lon <= 180 {
		p.Latitude, p.Longitude = lat, lon
	}
	return p
}

// Close closes the file; what is asked afterwards is not known.
func (m *Map) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reader.Close()
}
