package server

import (
	"context"
	"strings"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/portal"
	"github.com/countersign-dev/countersign/internal/recovery"
)

// recovery is what the pages of recovery need.
func (s *Server) recovery() portal.Recovery {
	r := portal.Recovery{Settings: recovery.Settings(s.Config.Recovery), CancelKeys: s.Ring.Nonces}
	if s.Config.Mail.Host != "" {
		r.Told = toldOf
	}
	return r
}

// toldOf says how a person is told outside the pages: at an address that was
// proved, which is shown so that only its owner knows it again.
func toldOf(_ context.Context, p account.Person) ([]string, error) {
	local, domain, ok := strings.Cut(p.Email, "@")
	if !ok || !p.Verified || local == "" {
		return nil, nil
	}
	return []string{"By e-mail to " + string([]rune(local)[:1]) + "…@" + domain + "."}, nil
}

// recoveryLink gives the link that a message about a recovery carries; "" for
// what needs none.
func (s *Server) recoveryLink(e notice.Event) (string, error) {
	n, _, err := recovery.NoticeLink(s.Config.Issuer, s.Ring.Nonces()[0], e.Kind, map[string]any{"recovery": e.Field("recovery")})
	return n.Link, err
}
