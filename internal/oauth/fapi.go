package oauth

import (
	"slices"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/web"
)

// The rules of the FAPI 2.0 Security Profile that are judged at each request of a
// client that is held to it. Its registration was judged when it was made
// (client.Check); what a request relies on of it is judged here again, so that no
// row makes a weaker client of it.

// profiled holds an authorization request to the profile (FAPI 2.0 §5.3.2.2): it
// names where the answer goes.
func (a *authRequest) profiled(f web.Form) error {
	if a.client.FAPI() && !f.Has("redirect_uri") {
		return invalid("invalid_request", "redirect_uri is missing (FAPI 2.0 section 5.3.2.2).")
	}
	return nil
}

// mustPush reports whether an authorization request of the client has to be pushed
// (RFC 9126 §6, FAPI 2.0 §5.3.2.2).
func mustPush(c client.Client) bool { return c.RequirePushed || c.FAPI() }

// proofAllowed reports whether a client's proof is signed as its profile allows
// (FAPI 2.0 §5.4.1).
func proofAllowed(c client.Client, p *proof) bool {
	return p == nil || !c.FAPI() || slices.Contains(client.FAPIAlgorithms, p.alg)
}
