package web

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/problem"
)

// OriginCheck refuses requests that change state and come from a page of
// another origin (Fetch Metadata, else Origin).
type OriginCheck struct{ cross *http.CrossOriginProtection }

// NewOriginCheck makes a check for pages served under the given origin, e.g.
// https://id.example.com: it counts as our own whatever Host a hop writes.
func NewOriginCheck(origin string) (*OriginCheck, error) {
	c := &OriginCheck{cross: http.NewCrossOriginProtection()}
	if err := c.cross.AddTrustedOrigin(origin); err != nil {
		return nil, fmt.Errorf("origin of our pages: %w", err)
	}
	return c, nil
}

// Check gives a problem.Denied with code cross_origin for a request of another
// origin. Requests that no browser made pass: they carry no cookie of ours.
func (c *OriginCheck) Check(r *http.Request) error {
	if err := c.cross.Check(r); err != nil {
		return crossOrigin.Because(err)
	}
	return nil
}

var crossOrigin = problem.New(problem.Denied, "cross_origin", "That request came from a page that is not ours.")

// Development guards the listeners of development mode, which any web page and
// any tunnel can reach (mechanisms I23).
type Development struct{ hosts, origins []string }

// NewDevelopment makes the guard of a loopback listener on a port.
func NewDevelopment(port int) *Development {
	d := &Development{}
	for _, name := range []string{"localhost", "127.0.0.1", "[::1]"} {
		host := fmt.Sprintf("%s:%d", name, port)
		d.hosts = append(d.hosts, host)
		d.origins = append(d.origins, "http://"+host)
		if port == 80 { // browsers leave it out
			d.hosts = append(d.hosts, name)
			d.origins = append(d.origins, "http://"+name)
		}
	}
	return d
}

// Check gives a problem.Denied for a Host that is not ours (host_unknown), a
// request that came through a proxy or tunnel (development_proxied), and a
// change of state from another origin (cross_origin).
func (d *Development) Check(r *http.Request) error {
	if !slices.Contains(d.hosts, r.Host) {
		return problem.Newf(problem.Denied, "host_unknown", "This server answers to http://%s only.", d.hosts[0])
	}
	if proxied(r) {
		return problem.New(problem.Denied, "development_proxied", "A proxy or tunnel stands before this server, which runs in development mode.").
			WithHint("Run countersignd serve behind proxies.")
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	site, origin := r.Header.Values("Sec-Fetch-Site"), r.Header.Values("Origin")
	same := len(site) == 1 && site[0] == "same-origin"
	if len(site) > 0 && !same && !slices.Equal(site, []string{"none"}) {
		return crossOrigin
	}
	// A page with no-referrer sends the origin null to itself as well.
	if len(origin) > 0 && !(len(origin) == 1 && (slices.Contains(d.origins, origin[0]) || same && origin[0] == "null")) {
		return crossOrigin
	}
	return nil
}
