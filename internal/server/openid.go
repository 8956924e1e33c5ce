package server

import (
	"context"
	"net/url"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/keyring"
	"github.com/countersign-dev/countersign/internal/oauth"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// maxSector is how long the document of a sector may be, in bytes.
const maxSector = 64 << 10

// clientReady makes sure of what a client relies on outside of its row, before it is
// registered: that its sector names it, that the server may call it, and a key of
// each algorithm that it has chosen.
func (s *State) clientReady(e web.Egress) func(context.Context, client.Client) error {
	e.MaxBytes, e.Timeout = maxSector, 3*time.Second
	sectors := oauth.Sectors{Client: e.Client()}
	return func(ctx context.Context, c client.Client) error {
		for _, uri := range []string{c.SectorURI, c.BackchannelURI, c.NotificationURI} {
			if u, err := url.Parse(uri); uri != "" && (err != nil || u.Scheme != "https" && !e.Allowed(u.Host)) {
				return problem.Newf(problem.Invalid, "url_invalid", "%.200q is not an https URL.", uri).
					WithHint("For http, or an address within your own network, name host:port in egress.allow of the server's configuration.")
			}
		}
		if err := sectors.Check(ctx, c); err != nil {
			return err
		}
		for _, alg := range c.Signs() {
			if err := s.Demand(ctx, keyring.IDToken, alg); err != nil {
				return err
			}
		}
		return nil
	}
}
