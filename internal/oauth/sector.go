package oauth

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Sectors reads the documents of sectors (OpenID Connect Registration §5). Calls
// MUST go through the guard on outbound calls.
type Sectors struct{ Client *http.Client }

// Check holds a client to its sector: every redirect URI of it is in the list at
// sector_identifier_uri, so that nobody can claim a sector whose host does not name
// them. A client without that URI has nothing to check. Errors are problem.Invalid
// with the code sector_invalid.
func (s Sectors) Check(ctx context.Context, c client.Client) error {
	if c.SectorURI == "" {
		return nil
	}
	list, err := s.read(ctx, c.SectorURI)
	if err != nil {
		return sectorInvalid("The document at sector_identifier_uri cannot be used: it has to be a JSON list of redirect URIs, answered with 200 and no redirect.").Because(err).
			WithHint("If it is within your own network, name its host in egress.allow of the server's configuration.")
	}
	for _, u := range c.RedirectURIs {
		if !slices.Contains(list, u) {
			return sectorInvalid("The document at sector_identifier_uri does not list the redirect URI " + u + ".")
		}
	}
	return nil
}

func sectorInvalid(detail string) *problem.Error {
	return problem.New(problem.Invalid, "sector_invalid", detail)
}

func (s Sectors) read(ctx context.Context, uri string) (list []string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := s.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, problem.Newf(problem.Invalid, "sector_answer", "the answer is %d", resp.StatusCode)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return list, json.Unmarshal(text, &list)
}
