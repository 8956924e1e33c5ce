package oauth

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// assertionLeeway is how far the clock of a client, or of a trusted issuer, may be ahead
// of ours (FAPI 2.0 §5.3.2.1: accept 10 s).
const assertionLeeway = 10 * time.Second

// requestObject gives the parameters of a request: those of its request object,
// if it has one, and then no other (RFC 9101 §6.3). Outside it only client_id
// counts, which must be the same.
func (s *Server) requestObject(ctx context.Context, a *authRequest, f web.Form) (web.Form, error) {
	text := f.Get("request")
	if text == "" {
		if a.client.RequireSigned {
			return f, invalid("invalid_request", "This app's requests must be signed: send a request object (RFC 9101).")
		}
		return f, nil
	}
	inner, _, err := s.signedParameters(ctx, a.client, text, jose.RequestObjectWant{})
	return inner, err
}

// signedParameters are the parameters that a client signed, with the object they were
// in. want says what else is asked of it than that it is by this client, for us.
func (s *Server) signedParameters(ctx context.Context, c client.Client, text string, want jose.RequestObjectWant) (f web.Form, o jose.RequestObject, err error) {
	if !c.Keyed() {
		return f, o, invalid("request_not_supported", "The app has no keys registered that a request object could be signed with.")
	}
	bad := invalid("invalid_request_object", "The request object is not valid (RFC 9101).")
	keys, err := s.clientKeys(ctx, c)
	if err != nil && !problem.Refusal(err) {
		return f, o, err
	}
	if err != nil {
		return f, o, bad.Because(err)
	}
	want.Issuer, want.ClientID, want.Now, want.Leeway = s.Issuer, c.ClientID, s.now(), assertionLeeway
	if o, err = jose.VerifyRequestObject(text, keys, want); err != nil {
		return f, o, bad.Because(err)
	}
	var pairs []web.Pair
	for _, p := range o.Parameters {
		if p.Name == "request" || p.Name == "request_uri" {
			return f, o, invalid("invalid_request_object", "A request object names no other request (RFC 9101 section 4).")
		}
		for _, v := range p.Values {
			pairs = append(pairs, web.Pair{Name: p.Name, Value: v})
		}
	}
	if f, err = web.NewForm(pairs, "resource"); err != nil {
		return f, o, bad.Because(err)
	}
	return f, o, nil
}
