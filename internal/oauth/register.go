package oauth

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// maxClientID is the longest client_id that a registration is given: it is in
// addresses, and proxies take 8 KB of them.
const maxClientID = 3 << 10

// How often registering is let happen: of one network, of one app, and at all. It
// costs nothing but the work of sealing; what is kept comes with a person's consent.
const (
	registerBurst = 20
	registerEvery = 3 * time.Second
	appTimes      = 10 // what one network may, that often: one alone keeps nobody from an app
	allBurst      = 600
	allEvery      = 100 * time.Millisecond
)

// registered is the answer to a registration (RFC 7591 §3.2.1): what was stored.
type registeredAnswer struct {
	ClientID      string             `json:"client_id"`
	IssuedAt      int64              `json:"client_id_issued_at"`
	Secret        string             `json:"client_secret,omitempty"`
	SecretExpires *int64             `json:"client_secret_expires_at,omitempty"`
	Name          string             `json:"client_name,omitempty"`
	RedirectURIs  []string           `json:"redirect_uris"`
	GrantTypes    []client.GrantType `json:"grant_types"`
	ResponseTypes []string           `json:"response_types"`
	AuthMethod    client.AuthMethod  `json:"token_endpoint_auth_method"`
	Application   string             `json:"application_type"`
	JWKS          json.RawMessage    `json:"jwks,omitempty"`
	JWKSURI       string             `json:"jwks_uri,omitempty"`
	SoftwareID    string             `json:"software_id,omitempty"`
	client.Demands
}

// register is the client registration endpoint (RFC 7591 §3). Nothing is written:
// the client_id is the registration itself, sealed, until a person agrees that the
// client may act for them.
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	open, err := s.Admissions.Openness(r.Context())
	if err != nil {
		return err
	}
	if !open.Registration {
		return missed(w, r)
	}
	out, err := s.registration(r)
	if err != nil {
		s.refusedQuietly(r, "client.register", err)
		return s.registrationError(w, r, err)
	}
	return web.JSON(w, http.StatusCreated, out)
}

func (s *Server) registration(r *http.Request) (*registeredAnswer, error) {
	now := s.now()
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, invalid("invalid_client_metadata", "A registration is sent as application/json (RFC 7591 section 3.1).")
	}
	slow := problem.New(problem.Throttled, "registration_throttled", "Too many registrations.")
	slow.RetryAfter = registerEvery
	if !s.registrations.take("network "+s.networkOf(r), now, registerBurst, registerEvery) || !s.registrations.take("all", now, allBurst, allEvery) {
		return nil, slow
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, client.MaxAnnounced+1))
	if err != nil {
		return nil, invalid("invalid_client_metadata", "The request could not be read.").Because(err)
	}
	reg, err := client.ParseRegistration(body, now)
	if err != nil {
		return nil, err
	}
	secret, has := reg.WithSecret()
	sealed, err := s.Keys.SealState(registrationPurpose, "", reg)
	if err != nil {
		return nil, err
	}
	id := client.DynamicPrefix + sealed
	if len(id) > maxClientID {
		return nil, invalid("invalid_client_metadata", "The registration is too long: name fewer or shorter redirect URIs and keys.")
	}
	c := reg.Client(id)
	if !s.registrations.take("app "+c.Group, now, appTimes*registerBurst, registerEvery/appTimes) {
		return nil, slow
	}
	out := &registeredAnswer{
		ClientID: id, IssuedAt: reg.At.Unix(), Name: c.Name, RedirectURIs: c.RedirectURIs, GrantTypes: c.GrantTypes, ResponseTypes: []string{"code"},
		AuthMethod: c.AuthMethod, Application: "web", JWKS: c.JWKS, JWKSURI: c.JWKSURI, SoftwareID: reg.SoftwareID, Demands: reg.Demands,
	}
	if c.Native {
		out.Application = "native"
	}
	if has {
		out.Secret, out.SecretExpires = secret.Reveal(), new(int64)
	}
	note(r, "group", c.Group)
	return out, nil
}

// registrationError answers as RFC 7591 §3.2.2 says.
func (s *Server) registrationError(w http.ResponseWriter, r *http.Request, err error) error {
	p := problem.From(err)
	if p == nil || p.Kind != problem.Invalid {
		return renderError(w, r, err)
	}
	code := "invalid_client_metadata"
	if p.Code == "invalid_redirect_uri" || p.Code == "invalid_software_statement" {
		code = p.Code
	}
	note(r, "error", p.Code)
	if cause := errors.Unwrap(p); cause != nil {
		note(r, "cause", cause.Error())
	}
	return web.JSON(w, http.StatusBadRequest, oauthError{Error: code, Desc: asciiOnly(p.Detail)})
}
