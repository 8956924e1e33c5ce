package server

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/recovery"
	"github.com/countersign-dev/countersign/internal/secret"
)

// leak tells what a reported value is: form and check first, then signature, tag
// or hash. What ends within the hour by itself, or can be had again by signing in,
// is ended; a client's or webhook's secret is only told of, since ending it stops
// what depends on it, and rotating it is one command.
func (s *Server) leak(ctx context.Context, text string) (admin.Found, bool, error) {
	for _, look := range []func(context.Context, string) (admin.Found, bool, error){
		s.leakedRefresh, s.leakedCookie, s.leakedClient, s.leakedLink, s.leakedRecovery, s.leakedCode, s.leakedWebhook, s.leakedToken,
	} {
		if f, ok, err := look(ctx, text); ok || err != nil {
			return f, ok, noneIfUnknown(err)
		}
	}
	return admin.Found{}, false, nil
}

// noneIfUnknown is nil for what is not there.
func noneIfUnknown(err error) error {
	if p := problem.From(err); p != nil && p.Kind == problem.NotFound {
		return nil
	}
	return err
}

// over reports whether one of the nodes has ended. One that is only frozen goes on
// one day, and what leaked with it.
func over(nodes []lineage.Node) bool {
	return slices.ContainsFunc(nodes, func(n lineage.Node) bool { return !n.EndedAt.IsZero() })
}

// ends is the end of nodes because they leaked; ok is false if any has ended
// already, or what it hangs on.
func (s *Server) ends(ctx context.Context, ids ...string) (list []act.Change, ok bool, err error) {
	nodes, err := s.Store.Ancestors(ctx, ids...)
	if err != nil {
		return nil, false, err
	}
	if over(nodes) || len(nodes) == 0 {
		return nil, false, nil
	}
	for _, i := range ids {
		list = append(list, lineage.End{ID: i, Why: "leaked"})
	}
	return list, true, nil
}

const doneGrant = "what it belonged to was ended"

// leakedRefresh knows a refresh token of any generation by its tag.
func (s *Server) leakedRefresh(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	tok, err := grant.ReadToken(text, s.Ring)
	if err != nil {
		return f, false, nil
	}
	fam, err := s.Store.Family(ctx, tok.FamilyID())
	if err != nil || tok.Gen > fam.Gen || tok.Gen == fam.Gen && !tok.Hash().Equal(fam.CurHash) {
		return f, false, noneIfUnknown(err)
	}
	list, ok, err := s.ends(ctx, fam.ID, fam.Grant)
	return admin.Found{What: "a refresh token", Person: fam.Person, Client: fam.Client, Target: []string{fam.ID, fam.Grant}, Changes: list, Done: doneGrant}, ok, err
}

// leakedCookie knows the cookie of a session or of a browser.
func (s *Server) leakedCookie(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	if v, err := secret.Read(secret.Session, text); err == nil {
		ses, err := s.Store.SessionBySecret(ctx, v.Hash())
		if err != nil {
			return f, false, noneIfUnknown(err)
		}
		list, ok, err := s.ends(ctx, ses.ID)
		return admin.Found{What: "the cookie of a session", Person: ses.Person, Target: []string{ses.ID}, Changes: list, Done: "the session was ended"}, ok, err
	}
	v, err := secret.Read(secret.Device, text)
	if err != nil {
		return f, false, nil
	}
	d, err := s.Store.DeviceBySecret(ctx, v.Hash())
	if err != nil {
		return f, false, noneIfUnknown(err)
	}
	list, ok, err := s.ends(ctx, d.ID)
	return admin.Found{What: "the cookie of a browser", Target: []string{d.ID}, Changes: list, Done: "what was signed in there was signed out"}, ok, err
}

// leakedClient knows the secret of a client.
func (s *Server) leakedClient(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	v, err := secret.Read(secret.ClientSecret, text)
	if err != nil {
		return f, false, nil
	}
	c, err := s.Store.ClientBySecret(ctx, v.Hash())
	if err != nil || over([]lineage.Node{c.Node}) || !slices.ContainsFunc(c.Secrets(s.now()), v.Hash().Equal) {
		return f, false, noneIfUnknown(err)
	}
	f = admin.Found{What: "the secret of a client", Client: c.ID, Target: []string{c.ID}, Next: "Rotate it: POST /v1/clients/" + c.ClientID + "/secret"}
	if strings.HasPrefix(c.Owner, id.Person) {
		f.Person = c.Owner
	}
	return f, true, nil
}

// links are the purposes of each kind of link.
var linkPurposes = map[secret.Kind][]once.Purpose{
	secret.Setup: {once.Setup}, secret.Invite: {once.Invite, once.Reenrol}, secret.Email: {once.EmailVerify},
}

// leakedLink knows the secret of a link that was not used yet.
func (s *Server) leakedLink(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	for kind, purposes := range linkPurposes {
		if _, err := secret.Read(kind, text); err != nil {
			continue
		}
		for _, p := range purposes {
			k := once.KeyOf(p, text)
			v, err := s.Store.OnceValue(ctx, p, k)
			var gone *once.Gone
			if errors.As(err, &gone) {
				continue
			}
			if err != nil || !v.UsedAt.IsZero() || !s.now().Before(v.ExpiresAt) {
				return f, false, err
			}
			return admin.Found{What: "a link that works once", Changes: []act.Change{once.Burn{Purpose: p, Key: k}}, Done: "it does not work any more"}, true, nil
		}
	}
	return f, false, nil
}

// leakedRecovery knows the private link of a recovery that is open.
func (s *Server) leakedRecovery(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	v, err := secret.Read(secret.Recover, text)
	if err != nil {
		return f, false, nil
	}
	r, err := s.Store.RecoveryByClaim(ctx, recovery.ClaimOf(v).Reveal())
	if err != nil || !r.Live(s.now()) {
		return f, false, noneIfUnknown(err)
	}
	return admin.Found{
		What: "the private link of a recovery", Person: r.Person, Target: []string{r.Person}, Changes: []act.Change{recovery.Cancel{ID: r.ID}}, Done: "the recovery was stopped",
	}, true, nil
}

// leakedCode knows a recovery code and a temporary pass that were not used yet. Of
// codes all end: where one was found the others were, too.
func (s *Server) leakedCode(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	code, err := secret.ReadTyped(text, secret.TypedLen)
	if err != nil {
		return f, false, nil
	}
	for _, p := range []once.Purpose{once.RecoveryCode, once.TemporaryPass} {
		k := once.KeyOf(p, code.Reveal())
		v, err := s.Store.OnceValue(ctx, p, k)
		var gone *once.Gone
		if errors.As(err, &gone) {
			continue
		}
		if err != nil || !v.UsedAt.IsZero() || !s.now().Before(v.ExpiresAt) {
			return f, false, err
		}
		f = admin.Found{Person: v.Bound, Target: []string{v.Bound}, What: "a recovery code", Done: "all recovery codes of the account stopped working", Changes: []act.Change{recovery.BurnCodes{Person: v.Bound}}}
		if p == once.TemporaryPass {
			f.What, f.Done, f.Changes = "a temporary pass", "it does not work any more", []act.Change{once.Burn{Purpose: p, Key: k}}
		}
		return f, true, nil
	}
	return f, false, nil
}

// leakedWebhook knows the secret of a webhook.
func (s *Server) leakedWebhook(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	rest, ok := strings.CutPrefix(text, "whsec_")
	raw, err := base64.StdEncoding.DecodeString(rest)
	if !ok || err != nil {
		return f, false, nil
	}
	all, err := s.Store.Webhooks(ctx, "", notice.MaxWebhooks)
	if err != nil {
		return f, false, err
	}
	for _, w := range all {
		secrets, err := w.Secrets(s.Sealer, s.now())
		if err != nil {
			return f, false, err
		}
		for _, have := range secrets {
			if subtle.ConstantTimeCompare(have, raw) == 1 {
				return admin.Found{What: "the secret of a webhook", Target: []string{w.ID}, Next: "Rotate it: countersign webhook rotate " + w.ID}, true, nil
			}
		}
	}
	return f, false, nil
}

// leakedToken knows an access token that has not expired by its signature. That of
// a service hangs on nothing but the service, and ends within minutes by itself.
func (s *Server) leakedToken(ctx context.Context, text string) (f admin.Found, ok bool, err error) {
	if len(text) > jose.MaxToken {
		return f, false, nil
	}
	c, err := jose.VerifyAccessToken(text, s.Ring, jose.AccessTokenWant{Issuer: s.Config.Issuer, AnyAudience: true, Now: s.now()})
	if err != nil {
		return f, false, nil
	}
	issued, err := s.Store.RecordLeaf(ctx, c.JTI)
	if err != nil || issued.Leaf == "" || over(issued.Nodes) {
		return f, false, noneIfUnknown(err)
	}
	f = admin.Found{What: "an access token", Next: "It ends by itself within minutes."}
	for _, n := range issued.Nodes {
		switch n.Kind {
		case lineage.Client:
			f.Client = n.ID
		case lineage.Person:
			f.Person = n.ID
		case lineage.Grant:
			if f.Changes, ok, err = s.ends(ctx, n.ID); err != nil || !ok {
				return f, false, err
			}
			f.Target, f.Done, f.Next = []string{n.ID}, doneGrant, ""
		}
	}
	return f, true, nil
}
