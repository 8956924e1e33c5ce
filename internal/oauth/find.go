package oauth

import (
	"context"
	"net/http"
	"strings"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/problem"
)

// registrationPurpose types the sealed form of a registration (RFC 7591), which is
// the client_id that was given for it.
const registrationPurpose = "client_registration"

var errUnknownClient = problem.New(problem.NotFound, "client_not_found", "There is no such client.")

// find finds a client by its name on the wire, for endpoints at which one may be
// met for the first time: one that is stored; one whose document its client_id is
// the address of; one that registered itself, whose registration its client_id
// holds. Those two have no ID until a person has agreed to them, and writing
// nothing until then is all that they cost (docs/decisions/0002). network is that of who is
// there, "" if unknown.
func (s *Server) find(ctx context.Context, clientID, network string) (client.Client, error) {
	c, err := s.stored(ctx, clientID)
	switch {
	case err == nil && c.Source == client.FromDocument && c.Node.Live():
		return s.asPublished(ctx, c, network)
	case !problem.Refusal(err) || !unregistered(clientID):
		return c, err
	}
	open, err := s.Admissions.Openness(ctx)
	if err != nil {
		return client.Client{}, err
	}
	if client.IsDocumentURL(clientID) {
		c, err = s.described(ctx, clientID, network, open)
	} else {
		c, err = s.registered7591(clientID, open)
	}
	if err != nil {
		return client.Client{}, err
	}
	return c, s.admit(ctx, &c, open)
}

// unregistered reports whether a client_id can be of a client that no
// administrator registered.
func unregistered(clientID string) bool {
	return client.IsDocumentURL(clientID) || strings.HasPrefix(clientID, client.DynamicPrefix)
}

// stored finds a client that has a row.
func (s *Server) stored(ctx context.Context, clientID string) (client.Client, error) {
	c, err := s.Clients.ClientByClientID(ctx, clientID)
	switch {
	case err != nil || c.Known():
		return c, err
	case c.Source == client.FromItself && client.StoredID(clientID) == clientID: // how it is kept is no second name for it
		return client.Client{}, errUnknownClient
	}
	open, err := s.Admissions.Openness(ctx)
	if err != nil {
		return client.Client{}, err
	}
	return c, s.admit(ctx, &c, open)
}

// admit fills in what the administrators say of an unregistered client: what it
// may ask for, and whether its group is trusted. It is read at each use. What they
// blocked has no ID and is refused here; what is stored of it stands frozen.
func (s *Server) admit(ctx context.Context, c *client.Client, open client.Openness) error {
	rules, err := s.Admissions.Rules(ctx)
	if err != nil {
		return err
	}
	if c.Trust = client.TrustOf(*c, rules); c.Trust == client.Blocked {
		return problem.New(problem.Denied, "client_blocked", "Your administrators don't allow this app.")
	}
	c.Scopes, c.Resources = open.Scopes, nil
	for _, id := range open.Resources {
		if id != "*" {
			c.Resources = append(c.Resources, id)
			continue
		}
		all, err := s.Resources.Resources(ctx, "", maxResources)
		if err != nil {
			return err
		}
		for _, res := range all {
			if res.URI != s.Issuer+"/v1" { // what manages the deployment is for clients that it registered
				c.Resources = append(c.Resources, res.ID)
			}
		}
	}
	return nil
}

// asPublished is a stored client, admitted, as its document says it is now; as it was
// agreed to while the document cannot be had.
func (s *Server) asPublished(ctx context.Context, c client.Client, network string) (client.Client, error) {
	open, err := s.Admissions.Openness(ctx)
	if err != nil {
		return client.Client{}, err
	}
	var via *asking
	if open.Documents != client.Nobody {
		via = s.asking(c.Trust, network)
		via.agreed = true
	}
	now, err := s.documentOf(ctx, c.ClientID, via)
	if problem.Refusal(err) {
		return c, nil
	}
	if err != nil {
		return client.Client{}, err
	}
	now.ID, now.Node, now.CreatedAt, now.Trust, now.Scopes, now.Resources = c.ID, c.Node, c.CreatedAt, c.Trust, c.Scopes, c.Resources
	return now, nil
}

// described is a client that is met for the first time, by its document.
func (s *Server) described(ctx context.Context, clientID, network string, open client.Openness) (client.Client, error) {
	if open.Documents == client.Nobody {
		return client.Client{}, errUnknownClient
	}
	if err := client.CheckDocumentURL(clientID); err != nil {
		return client.Client{}, err
	}
	rules, err := s.Admissions.Rules(ctx)
	if err != nil {
		return client.Client{}, err
	}
	domain := client.Origin{Source: client.FromDocument, Group: client.DocumentHost(clientID)}
	said := client.TrustOf(client.Client{Origin: domain}, rules)
	if open.Documents == client.Listed && !allowed(said) {
		c, err := s.documentOf(ctx, clientID, nil) // a pinned one is listed by that
		if problem.Refusal(err) {
			return client.Client{}, problem.Newf(problem.Denied, "client_not_listed", "Apps of %s are not among those that your administrators allow.", domain.Group).
				WithHint("Ask them to allow the domain, or to pin the app.")
		}
		return c, err
	}
	return s.documentOf(ctx, clientID, s.asking(said, network))
}

// registered7591 is a client that registered itself and that nobody agreed to yet.
func (s *Server) registered7591(clientID string, open client.Openness) (client.Client, error) {
	if !open.Registration {
		return client.Client{}, errUnknownClient
	}
	sealed := strings.TrimPrefix(clientID, client.DynamicPrefix)
	var reg client.Registration
	if err := s.Keys.OpenState(registrationPurpose, "", sealed, &reg); err != nil {
		if problem.Refusal(err) {
			err = errUnknownClient.Because(err)
		}
		return client.Client{}, err
	}
	if !onlySpelling(sealed) {
		return client.Client{}, errUnknownClient
	}
	if s.now().Sub(reg.At) > client.RegistrationLifetime {
		return client.Client{}, problem.Newf(problem.NotFound, "client_expired", "The registration of “%s” was never used and has expired.", reg.Name)
	}
	return reg.Client(clientID), nil
}

// nameOf is what a sealed value is bound to that is a client's: its id, or its
// name for one that may have no id yet.
func nameOf(c client.Client) string {
	if c.Known() {
		return c.ID
	}
	return c.ClientID
}

// withKeys is a stored client with the keys that its document publishes now: they
// may have been replaced, withdrawn or published for the first time since somebody agreed to
// it. Who publishes keys authenticates with them, always; and who was agreed to with keys is not
// public before somebody agrees to that.
func (s *Server) withKeys(ctx context.Context, c client.Client, network string) (client.Client, error) {
	if c.Source != client.FromDocument || c.AuthMethod != client.AuthPrivateKeyJWT && c.AuthMethod != client.AuthNone {
		return c, nil
	}
	public := c.AuthMethod == client.AuthNone
	if public { // it needs no document, so it is not kept waiting for one for long, nor often
		if s.knownDocs.away(c.ClientID, s.now()) {
			return c, nil
		}
		within, cancel := context.WithTimeout(ctx, fetchTime)
		defer cancel()
		ctx = within
	}
	now, err := s.asPublished(ctx, c, network)
	if err != nil || public && !now.Keyed() {
		return c, err
	}
	// None: whoever has one of those it had is not that client any more.
	c.JWKS, c.JWKSURI, c.Pinned, c.AuthMethod = now.JWKS, now.JWKSURI, now.Pinned, client.AuthPrivateKeyJWT
	return c, nil
}

// networkOf is the network that a request comes from, "" if unknown.
func (s *Server) networkOf(r *http.Request) string { return grant.NetworkOf(s.ClientAddr(r)) }

// shortID names a client in the log: a registration is long, and all its own.
func shortID(c client.Client) string { return client.StoredID(c.ClientID) }
