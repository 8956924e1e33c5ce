package oauth

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/session"
	"github.com/countersign-dev/countersign/internal/web"
)

// count remembers that a person is asked for a step-up, and refuses the one too
// many. What counts as the same is the ask and the scopes (mechanisms A15).
func (s *Server) count(r *http.Request, a *authRequest, ses session.Session, p *grant.Pending) error {
	from, ask := s.Browser.Origin(r), p.Ask
	scopes := slices.Sorted(slices.Values(a.in.Scopes))
	return s.Do.Challenge(r.Context(), s.State, act.Challenge{
		Person: ses.Person, Session: ses.ID, Client: a.client.ID, Ref: web.RecordOf(r).Ref(), For: For(p.Reference), Device: from.Device, Band: p.Band, Action: a.answering().yes, From: from, Ask: ask, Why: p.Why,
		Class: strconv.Itoa(int(ask.Rung)) + " " + ask.MaxAge.String() + " " + strings.Join(scopes, " "),
	})
}
