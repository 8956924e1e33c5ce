package clilogin

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Call is one HTTP request with the profile's token.
type Call struct {
	Method   string
	URL      string // https, or http on loopback
	Header   http.Header
	Body     []byte
	Audience string        // "": what the resource says of itself
	Prompter Prompter      // nil: CodeStepUpNeeded instead of asking
	Timeout  time.Duration // for the person; 0: PromptTimeout
}

// Answer is what came of a Call. The caller closes Response.Body.
type Answer struct {
	Response  *http.Response
	Anonymous bool      // no token was sent: the resource does not say who protects it
	SteppedUp *SignedIn // not nil if the person was asked
}

// Do sends a request with a token for its resource. If the resource asks for
// more proof, the person is asked once and the same request, with the same
// Idempotency-Key, is sent once more; whatever it answers then is returned. Redirects are
// not followed.
//
// Errors: CodeLoginNeeded, CodeStepUpNeeded, CodeResourceRefused, CodeDenied,
// CodeTimedOut, CodeUnreachable, CodeStorage….
func (p *Profile) Do(ctx context.Context, call Call) (Answer, error) {
	c, err := p.usableCredential()
	if err != nil {
		return Answer{}, err
	}
	req, err := call.request(ctx)
	if err != nil {
		return Answer{}, err
	}
	audience := call.Audience
	if audience == "" {
		audience, err = p.audience(ctx, c, req.URL)
	} else if own := (resourceMetadata{Resource: audience}); !own.covers(req.URL) {
		err = fault(problem.Invalid, CodeResourceRefused, "The address is not of the audience "+audience+"; no token was sent.")
	}
	if errors.Is(err, errUnannounced) {
		return p.introduce(ctx, c, call, req)
	}
	if err != nil {
		return Answer{}, err
	}
	return p.send(ctx, call, req, audience)
}

func (call Call) request(ctx context.Context) (*http.Request, error) {
	var req *http.Request
	u, err := url.Parse(call.URL)
	if err == nil && (u.Scheme == "" || u.Host == "") {
		err = errors.New("it is not absolute")
	}
	if err == nil {
		req, err = http.NewRequestWithContext(ctx, call.Method, call.URL, bytes.NewReader(call.Body))
	}
	if err != nil {
		return nil, fault(problem.Invalid, CodeInvalid, "The request cannot be made: "+call.Method+" "+call.URL+".").Because(err)
	}
	if !safe(req.URL) {
		return nil, fault(problem.Invalid, CodeResourceRefused, "A token is sent only over https, or to this computer, and never with a user in the address.")
	}
	for name, values := range call.Header {
		if name = http.CanonicalHeaderKey(name); name == "Authorization" || name == "Dpop" {
			return nil, fault(problem.Invalid, CodeInvalid, "The header "+name+" is this command's to set.")
		}
		req.Header[name] = values
		if name == "Host" {
			return nil, fault(problem.Invalid, CodeInvalid, "The header Host is the address's.")
		}
	}
	return req, nil
}

// introduce sends the request without a token, to be told who protects it (RFC
// 9728 section 5). Whatever is not such an answer is the answer.
func (p *Profile) introduce(ctx context.Context, c *Credential, call Call, req *http.Request) (Answer, error) {
	resp, err := p.direct(0).Do(req)
	if err != nil {
		return Answer{}, network(err)
	}
	at := ""
	if resp.StatusCode == http.StatusUnauthorized {
		list, _ := countersign.ParseChallenge(resp.Header.Values("WWW-Authenticate"))
		for _, ch := range list {
			at = orElse(at, ch.ResourceMetadata)
		}
	}
	if at == "" {
		return Answer{Response: resp, Anonymous: true}, nil
	}
	resp.Body.Close()
	audience, err := p.announced(ctx, c, req.URL, at)
	if err != nil {
		return Answer{}, err
	}
	again, err := call.request(ctx)
	if err != nil {
		return Answer{}, err
	}
	return p.send(ctx, call, again, audience)
}

// send sends the request with a token for the audience.
func (p *Profile) send(ctx context.Context, call Call, req *http.Request, audience string) (Answer, error) {
	var out Answer
	var more *needed
	_, err := p.Token(ctx, TokenRequest{Audience: audience})
	if errors.As(err, &more) {
		more.challenge.Method, more.challenge.URL = req.Method, req.URL.Redacted()
		var in SignedIn
		if in, err = p.StepUp(ctx, audience, more.challenge, call.Prompter, call.Timeout); err == nil {
			out.SteppedUp = &in
		}
	}
	if err != nil {
		if problem.CodeOf(err) == "invalid_target" {
			p.forget(audience)
		}
		return Answer{}, err
	}
	c, err := p.usableCredential()
	if err != nil {
		return Answer{}, err
	}
	key, err := c.key()
	if err != nil {
		return Answer{}, err
	}
	var stepFault error
	v := &view{p: p, audience: audience, patient: true}
	transport := &countersign.Transport{
		Resource: audience, Source: countersign.NewTokenSource(v, v.renew), Key: key, Now: p.Now,
		StepUp: func(ctx context.Context, ch countersign.Challenge) error {
			if ch.Error == "insufficient_scope" && len(ch.Scope) == 0 {
				return errNothingAsked
			}
			in, err := p.StepUp(ctx, audience, ch, call.Prompter, call.Timeout)
			if stepFault = err; err == nil {
				out.SteppedUp = &in
			}
			return err
		},
	}
	if out.SteppedUp != nil { // nobody is asked twice for one request
		transport.StepUp = nil
	}
	if p.HTTP != nil {
		transport.Base = p.HTTP.Transport
	}
	client := p.direct(0)
	client.Transport = transport
	resp, err := client.Do(req)
	switch {
	case stepFault != nil:
		return Answer{}, stepFault
	case countersign.IsCode(v.fault, "invalid_grant"):
		if resp != nil {
			resp.Body.Close()
		}
		return Answer{}, p.explain(v, v.fault)
	case errors.Is(err, errNothingAsked):
		return Answer{}, fault(problem.Denied, CodeDenied, strings.TrimSpace(call.Method+" "+call.URL)+" was refused: your sign-in does not allow it.")
	case err != nil:
		return Answer{}, network(err)
	}
	out.Response = resp
	return out, nil
}

// errNothingAsked: the refusal names nothing that a person could add.
var errNothingAsked = errors.New("nothing is asked for")
